/* covenant-wanlab: run a command beside a few hosts that are connected by a slow WAN, all on this machine.
 *
 *   covenant-wanlab [OPTIONS] -- COMMAND [ARG]...     make the lab, run the command, remove the lab; its exit code
 *   covenant-wanlab exec HOST COMMAND [ARG]...        inside: run a command on host HOST (0, 1, ...)
 *   covenant-wanlab agent [SSH-OPTIONS] ADDRESS TEXT  inside: stand-in for ssh, for mpirun's plm_rsh_agent
 *   covenant-wanlab set HOST KEY=VALUE...             inside: change a link (up down delay jitter loss state)
 *
 * A host is a process with its own network, host name and /sys: interface wan0 (10.77.0.HOST+1, shaped by router.c) and
 * ctl0 (10.88.0.HOST+1, an unshaped bridge, over which mpirun starts processes). The command runs outside of the hosts,
 * at 10.88.0.254. All of it lives in a process-id namespace: whatever ends this program, even SIGKILL, ends every
 * process of the lab and with them its networks. Nothing outside is touched. Needs root, /dev/net/tun, `ip`; exit code
 * 77 says what is missing. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "router.h"

/* LeakSanitizer cannot stop the threads of a process in another process-id namespace and ends it with an error of its
 * own: in a build with it, neither this program nor what runs in the lab is looked at for leaks. */
#ifdef __SANITIZE_ADDRESS__
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
  return "detect_leaks=0";
}
#endif

static void ignore_leaks(void) {
  char options[1024];
  const char *given = getenv("ASAN_OPTIONS");
  snprintf(options, sizeof options, "%s%sdetect_leaks=0", given ? given : "", given ? ":" : "");
  setenv("ASAN_OPTIONS", options, 1);
}

enum { SKIP = 77, TEXT_BYTES = 1024 };
static const char control_name[] = "covlab-control"; /* abstract: in the command's network only */

static lab_router router = {.control = -1, .queue_ms = 100, .seed = 1};
static pid_t holder[LAB_HOSTS_MAX];
static volatile sig_atomic_t signalled;

static _Noreturn void fail(int code, const char *format, ...) {
  va_list args;
  va_start(args, format);
  fputs("covenant-wanlab: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  exit(code);
}

static int shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int shell(const char *format, ...) {
  char text[TEXT_BYTES];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return system(text);
}

/* ---- inside: act on a running lab ---- */

static pid_t holder_of(int host) {
  const char *at = getenv("COVLAB");
  if (!at) fail(2, "COVLAB is not set: this works inside a lab only");
  for (int i = 0; i < host && at; i++) {
    at = strchr(at, ',');
    if (at) at++;
  }
  if (host < 0 || !at) fail(2, "there is no host %d", host);
  return (pid_t)atoi(at);
}

static void enter(int host) {
  static const char *const kinds[] = {"net", "uts", "mnt"};
  char path[64];
  for (int i = 0; i < 3; i++) {
    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)holder_of(host), kinds[i]);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, 0) != 0) fail(1, "cannot enter host %d (%s): %s", host, path, strerror(errno));
    close(fd);
  }
}

static int run_on_host(int argc, char **argv) {
  char here[4096];
  if (argc < 2) fail(2, "exec HOST COMMAND");
  if (!getcwd(here, sizeof here)) here[0] = '\0';
  enter(atoi(argv[0]));
  if (here[0] && chdir(here) != 0) perror(here);
  execvp(argv[1], argv + 1);
  fail(127, "%s: %s", argv[1], strerror(errno));
}

/* As ssh: options, a host, and the rest is text for its shell. */
static int run_as_agent(int argc, char **argv) {
  static char text[1 << 16];
  int i = 0;
  while (i < argc && argv[i][0] == '-') i += strchr("pol", argv[i][1]) ? 2 : 1;
  if (i + 1 >= argc) fail(2, "agent ADDRESS TEXT");
  const char *dot = strrchr(argv[i], '.');
  if (!dot) fail(2, "agent: %s is no address of the lab", argv[i]);
  size_t used = 0;
  for (int k = i + 1; k < argc; k++) {
    int n = snprintf(text + used, sizeof text - used, "%s%s", used ? " " : "", argv[k]);
    if (n < 0 || used + (size_t)n >= sizeof text) fail(2, "agent: too long a command");
    used += (size_t)n;
  }
  enter(atoi(dot + 1) - 1);
  execl("/bin/sh", "sh", "-c", text, (char *)NULL);
  fail(127, "/bin/sh: %s", strerror(errno));
}

static socklen_t control_address(struct sockaddr_un *address) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path + 1, control_name, sizeof control_name - 1);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof control_name);
}

static int tell_router(const char *verb, int argc, char **argv) {
  char text[4096];
  struct sockaddr_un address;
  int used = snprintf(text, sizeof text, "%s", verb);
  for (int i = 0; i < argc && used < (int)sizeof text - 1; i++) {
    used += snprintf(text + used, sizeof text - (size_t)used, " %s", argv[i]);
  }
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  socklen_t n = control_address(&address);
  if (fd < 0 || sendto(fd, text, strlen(text), 0, (struct sockaddr *)&address, n) < 0) {
    fail(1, "cannot reach the router: %s", strerror(errno));
  }
  close(fd);
  return 0;
}

/* ---- making the lab: all of this runs as process 1 of its own process-id namespace ---- */

static void write_setting(const char *path, const char *value) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return; /* not on this kernel: its default has to do */
  if (write(fd, value, strlen(value)) < 0) fprintf(stderr, "covenant-wanlab: %s: %s\n", path, strerror(errno));
  close(fd);
}

/* Windows that fit rate times delay many times over, and no memory of earlier connections. */
static void tune_network(const char *congestion) {
  write_setting("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
  write_setting("/proc/sys/net/ipv4/tcp_rmem", "4096 131072 67108864");
  write_setting("/proc/sys/net/ipv4/tcp_wmem", "4096 65536 67108864");
  write_setting("/proc/sys/net/ipv4/tcp_no_metrics_save", "1");
  if (congestion) write_setting("/proc/sys/net/ipv4/tcp_congestion_control", congestion);
}

static void own_namespaces(const char *name) {
  if (unshare(CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWNS) != 0)
    fail(SKIP, "cannot make namespaces: %s", strerror(errno));
  if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) fail(SKIP, "private mounts: %s", strerror(errno));
  /* sysfs shows the network of who mounts it; UCX looks there for interfaces */
  (void)umount2("/sys", MNT_DETACH);
  if (mount("sysfs", "/sys", "sysfs", 0, NULL) != 0) fail(SKIP, "cannot mount /sys: %s", strerror(errno));
  if (sethostname(name, strlen(name)) != 0) fail(SKIP, "cannot set a host name: %s", strerror(errno));
  if (shell("ip link set lo up") != 0) fail(SKIP, "the program 'ip' does not work");
}

static void hold(int host, const char *congestion, int ready) {
  char name[32];
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  snprintf(name, sizeof name, "covlab-%d", host);
  own_namespaces(name);
  tune_network(congestion);
  if (write(ready, "+", 1) != 1) _exit(1);
  for (;;) pause();
}

static void start_host(int host, const char *congestion) {
  int ready[2];
  char byte;
  if (pipe(ready) != 0) fail(1, "pipe: %s", strerror(errno));
  holder[host] = fork();
  if (holder[host] < 0) fail(1, "fork: %s", strerror(errno));
  if (holder[host] == 0) hold(host, congestion, ready[1]);
  close(ready[1]);
  if (read(ready[0], &byte, 1) != 1) fail(SKIP, "host %d did not come up", host);
  close(ready[0]);
  int bad = shell("ip link add covlab-c%d type veth peer name ctl0 netns %d", host, (int)holder[host]);
  bad |= shell("ip link set covlab-c%d master covlab-br up", host);
  if (bad) fail(SKIP, "cannot make the control network (veth, bridge)");
}

static int open_tun(int host) {
  char path[64];
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI, .ifr_name = "wan0"};
  snprintf(path, sizeof path, "/proc/%d/ns/net", (int)holder[host]);
  int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there = open(path, O_RDONLY | O_CLOEXEC);
  if (own < 0 || there < 0 || setns(there, CLONE_NEWNET) != 0) fail(SKIP, "%s: %s", path, strerror(errno));
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0) fail(SKIP, "/dev/net/tun: %s", strerror(errno));
  int bad = shell("ip addr add 10.77.0.%d/24 dev wan0 && ip link set wan0 mtu 1500 txqueuelen 5000 up && "
                  "ip addr add 10.88.0.%d/24 dev ctl0 && ip link set ctl0 up",
                  host + 1, host + 1);
  if (bad || setns(own, CLONE_NEWNET) != 0) fail(SKIP, "cannot set up the interfaces of host %d", host);
  close(own);
  close(there);
  return fd;
}

/* A lab is about networks: other work on the machine should not make its links slower. Where the kernel groups
 * processes by session, priorities count within a group only, so the session gets one too. */
static void raise_priority(void) {
  (void)setsid();
  write_setting("/proc/self/autogroup", "-15");
  (void)setpriority(PRIO_PROCESS, 0, -15);
}

static void make_lab(const char *congestion) {
  char text[64];
  struct sockaddr_un address;
  if (mount("proc", "/proc", "proc", 0, NULL) != 0) fail(SKIP, "cannot mount /proc: %s", strerror(errno));
  raise_priority();
  if (shell("ip link add covlab-br type bridge && ip addr add 10.88.0.254/24 dev covlab-br && "
            "ip link set covlab-br up") != 0) {
    fail(SKIP, "cannot make a bridge");
  }
  char *pids = calloc((size_t)router.n + 1, 16);
  if (!pids) fail(1, "no memory");
  for (int i = 0; i < router.n; i++) {
    start_host(i, congestion);
    router.fd[i] = open_tun(i);
    snprintf(text, sizeof text, "10.77.0.%d", i + 1);
    router.address[i] = inet_addr(text);
    snprintf(text, sizeof text, "%s%d", i ? "," : "", (int)holder[i]);
    strcat(pids, text);
  }
  router.control = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  socklen_t n = control_address(&address);
  if (router.control < 0 || bind(router.control, (struct sockaddr *)&address, n) != 0) fail(1, "control socket");
  setenv("COVLAB", pids, 1);
  free(pids);
}

static pid_t start_router(void) {
  pid_t child = fork();
  if (child < 0) fail(1, "fork: %s", strerror(errno));
  if (child > 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  (void)setpriority(PRIO_PROCESS, 0, -20); /* packets that come late would be a slower link */
  _exit(lab_router_run(&router));
}

static void on_signal(int signal) {
  signalled = signal;
}

/* Process 1: also takes the place of the parent of whoever has lost his. */
static _Noreturn void be_init(const char *congestion, char **command) {
  struct sigaction action = {.sa_handler = on_signal};
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  own_namespaces("covlab");
  make_lab(congestion);
  pid_t routing = start_router(), child = fork();
  if (child < 0) fail(1, "fork: %s", strerror(errno));
  if (child == 0) {
    ignore_leaks();
    execvp(command[0], command);
    fail(127, "%s: %s", command[0], strerror(errno));
  }
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  for (;;) {
    int status;
    pid_t gone = waitpid(-1, &status, 0);
    if (gone < 0 && errno == EINTR && signalled) kill(child, signalled);
    if (gone == routing) fail(1, "the router has ended");
    if (gone == child) exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    if (gone < 0 && errno == ECHILD) exit(1);
  }
}

static int make_and_run(const char *congestion, char **command) {
  struct sigaction action = {.sa_handler = on_signal};
  int status;
  if (geteuid() != 0) fail(SKIP, "needs root (network namespaces)");
  if (access("/dev/net/tun", R_OK | W_OK) != 0) fail(SKIP, "/dev/net/tun: %s", strerror(errno));
  if (unshare(CLONE_NEWPID) != 0) fail(SKIP, "cannot make a process-id namespace: %s", strerror(errno));
  pid_t child = fork();
  if (child < 0) fail(1, "fork: %s", strerror(errno));
  if (child == 0) be_init(congestion, command);
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) fail(1, "waitpid: %s", strerror(errno));
    if (signalled) kill(child, signalled);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- command line ---- */

static const char usage[] =
    "usage: covenant-wanlab [OPTIONS] -- COMMAND [ARG]...\n"
    "  --hosts N      hosts (4)\n"
    "  --up MBIT      uplink of each (11)\n"
    "  --down MBIT    downlink of each (50)\n"
    "  --rtt MS       between any two hosts (80)\n"
    "  --jitter MS    up to so much more, one way (0)\n"
    "  --loss PERCENT of packets, on each access link (0)\n"
    "  --queue MS     longest wait in a queue (100)\n"
    "  --link HOST:KEY=VALUE[,KEY=VALUE]...   one host's own: up down delay jitter loss state\n"
    "  --cc NAME      TCP congestion control (the machine's default)\n"
    "  --seed N       of the losses (1)\n"
    "  --stats FILE   the router's counters, four lines a second (router.h)\n"
    "Inside, COVLAB is set and 'covenant-wanlab exec|agent|set' work; their use is said in tests/lab/wanlab.c.\n";

static void set_links(const char *assignment) {
  for (int i = 0; i < LAB_HOSTS_MAX; i++) {
    if (!lab_link_set(&router.link[i], assignment)) fail(2, "cannot set '%s'", assignment);
  }
}

static void set_link(char *text) {
  char *rest, *word = strchr(text, ':');
  int host = atoi(text);
  if (!word || host < 0 || host >= LAB_HOSTS_MAX) fail(2, "--link HOST:KEY=VALUE, not '%s'", text);
  for (word = strtok_r(word + 1, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
    if (!lab_link_set(&router.link[host], word)) fail(2, "--link: cannot set '%s'", word);
  }
}

static void set_all(const char *key, const char *value) {
  char text[64];
  if (strcmp(key, "rtt") == 0) { /* two access links, twice */
    snprintf(text, sizeof text, "delay=%g", atof(value) / 4);
  } else {
    snprintf(text, sizeof text, "%s=%s", key, value);
  }
  set_links(text);
}

static int parse_and_run(int argc, char **argv) {
  static const struct option options[] = {{"hosts", required_argument, NULL, 'n'},
                                          {"up", required_argument, NULL, 'k'},
                                          {"down", required_argument, NULL, 'k'},
                                          {"rtt", required_argument, NULL, 'k'},
                                          {"jitter", required_argument, NULL, 'k'},
                                          {"loss", required_argument, NULL, 'k'},
                                          {"queue", required_argument, NULL, 'q'},
                                          {"link", required_argument, NULL, 'l'},
                                          {"cc", required_argument, NULL, 'c'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"stats", required_argument, NULL, 'f'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  static const char *const defaults[][2] = {{"up", "11"}, {"down", "50"}, {"rtt", "80"}, {"state", "up"}};
  char *own[LAB_HOSTS_MAX] = {NULL};
  const char *congestion = NULL;
  int option, which = 0, n_own = 0;
  router.n = 4;
  for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) set_all(defaults[i][0], defaults[i][1]);
  while ((option = getopt_long(argc, argv, "+", options, &which)) != -1) {
    if (option == 'n') router.n = atoi(optarg);
    if (option == 'k') set_all(options[which].name, optarg);
    if (option == 'q') router.queue_ms = atof(optarg);
    if (option == 'l' && n_own < LAB_HOSTS_MAX) own[n_own++] = optarg;
    if (option == 'c') congestion = optarg;
    if (option == 'f') router.stats = optarg;
    if (option == 's') router.seed = strtoull(optarg, NULL, 10);
    if (option == 'h' || option == '?') fputs(usage, option == 'h' ? stdout : stderr);
    if (option == 'h' || option == '?') return option == 'h' ? 0 : 2;
  }
  for (int i = 0; i < n_own; i++) set_link(own[i]); /* after what is said for all */
  if (router.n < 1 || router.n > LAB_HOSTS_MAX) fail(2, "--hosts is %d; 1 .. %d are possible", router.n, LAB_HOSTS_MAX);
  if (optind >= argc) {
    fputs(usage, stderr);
    return 2;
  }
  return make_and_run(congestion, argv + optind);
}

int main(int argc, char **argv) {
  const char *verb = argc > 1 ? argv[1] : "";
  if (strcmp(verb, "exec") == 0) return run_on_host(argc - 2, argv + 2);
  if (strcmp(verb, "agent") == 0) return run_as_agent(argc - 2, argv + 2);
  if (strcmp(verb, "set") == 0) return tell_router("set", argc - 2, argv + 2);
  return parse_and_run(argc, argv);
}
