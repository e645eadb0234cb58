/* `covenant launch --dry-run` of the built program: the mpirun line, and every refusal before anything is started. */
#include <sys/file.h>
#include <fcntl.h>

#include "launch_fixture.h"
#include "ledger/ledger.h"

static char *output; /* of the last command: stdout, then stderr */

/* Runs `VARIABLES bin/covenant launch ARGUMENTS` in the scratch folder; its exit code. */
static int launch_with(const char *variables, const char *arguments) {
  char command[4096];
  snprintf(command, sizeof command,
           "cd '%s' && %s bin/covenant launch %s > out 2> err; rc=$?; cat err >> out; exit $rc", base_folder, variables,
           arguments);
  int status = system(command);
  free(output);
  output = text_of("out");
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static int launch(const char *arguments) {
  return launch_with("", arguments);
}

static void assert_printed(const char *what) {
  if (!strstr(output, what)) fail_msg("'%s' is not in: %s", what, output);
}

/* Refused, with one line that has `text`. */
static void refuse(int want, const char *arguments, const char *text) {
  int code = launch(arguments), lines = 0;
  if (code != want) fail_msg("exit code %d, not %d, of: launch %s\n%s", code, want, arguments, output);
  for (const char *p = output; *p; p++) lines += *p == '\n';
  if (lines != 1) fail_msg("%d lines, not one, of: launch %s\n%s", lines, arguments, output);
  assert_int_equal(strncmp(output, "error: ", 7), 0);
  assert_printed(text);
}

/* Removes what depends on the machine from the line: the variables of root, and the flag for containers. */
static void strip(void) {
  static const char root[] = "env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 "
                             "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1 ";
  static const char copy[] = " --mca btl_vader_single_copy_mechanism none";
  assert_int_equal(strncmp(output, root, strlen(root)) == 0, geteuid() == 0);
  if (geteuid() == 0) memmove(output, output + strlen(root), strlen(output + strlen(root)) + 1);
  char *at = strstr(output, copy);
  if (at) memmove(at, at + strlen(copy), strlen(at + strlen(copy)) + 1);
}

/* `want` with each '@' replaced by the folder of the programs. */
static void assert_line(const char *want) {
  char *text = NULL;
  size_t bytes = 0;
  FILE *f = open_memstream(&text, &bytes);
  for (; *want; want++) {
    if (*want == '@') {
      fputs(in_base("bin"), f);
    } else {
      fputc(*want, f);
    }
  }
  fclose(f);
  strip();
  assert_string_equal(output, text);
  free(text);
}

#define COMMON "data.dir=data run.dir=r run.peers=2"

static void two_peers_on_one_host(void **state) {
  (void)state;
  assert_int_equal(launch("--dry-run " COMMON " train.threads=3"), 0);
#define SETTINGS COMMON " train.threads=3"
  assert_line("mpirun --enable-recovery --mca orte_abort_on_non_zero_status 0 --bind-to none --oversubscribe"
              " -np 1 -x OMP_NUM_THREADS=3 @/covenant-train " SETTINGS " --peer 0 --shard 0"
              " : -np 1 -x OMP_NUM_THREADS=3 @/covenant-sync " SETTINGS " --peer 0 --shard 0"
              " : -np 1 -x OMP_NUM_THREADS=3 @/covenant-train " SETTINGS " --peer 1 --shard 0"
              " : -np 1 -x OMP_NUM_THREADS=3 @/covenant-sync " SETTINGS " --peer 1 --shard 0"
              " : -np 1 -x OMP_NUM_THREADS=3 @/covenant-eval " SETTINGS " --peer 0 --shard 0\n");
#undef SETTINGS
}

static void two_peers_on_two_hosts(void **state) {
  (void)state;
  put("a.yaml", "run:\n  hosts: \"n1,n2\"\n");
  const char *variables = "env -u UCX_TLS UCX_NET_DEVICES=wan0";
  assert_int_equal(launch_with(variables, "-c a.yaml --dry-run " COMMON " run.eval_ranks=0 run.sync_ranks=2"), 0);
#define SETTINGS "-c a.yaml " COMMON " run.eval_ranks=0 run.sync_ranks=2"
#define X        " -x OMP_NUM_THREADS=1 -x UCX_NET_DEVICES=wan0 "
  assert_line("mpirun --enable-recovery --mca orte_abort_on_non_zero_status 0 --bind-to none --mca pml ucx --mca "
              "opal_common_ucx_tls any"
              " --mca opal_common_ucx_devices any --mca btl self"
              " -np 1 --host n1:3" X "@/covenant-train " SETTINGS " --peer 0 --shard 0"
              " : -np 1 --host n1:3" X "@/covenant-sync " SETTINGS " --peer 0 --shard 0"
              " : -np 1 --host n1:3" X "@/covenant-sync " SETTINGS " --peer 0 --shard 1"
              " : -np 1 --host n2:3" X "@/covenant-train " SETTINGS " --peer 1 --shard 0"
              " : -np 1 --host n2:3" X "@/covenant-sync " SETTINGS " --peer 1 --shard 0"
              " : -np 1 --host n2:3" X "@/covenant-sync " SETTINGS " --peer 1 --shard 1\n");
#undef X
#undef SETTINGS
}

static int count(const char *what) {
  int n = 0;
  for (const char *at = output; (at = strstr(at, what)); at++) n++;
  return n;
}

static void peers_on_one_named_host_share_it(void **state) {
  (void)state;
  assert_int_equal(launch("--dry-run " COMMON " run.hosts=n1,n1"), 0);
  assert_int_equal(count("--host n1:5 "), 5);
  assert_printed("--oversubscribe");
  assert_null(strstr(output, "ucx"));
}

static void slurm_nodes_are_shared_out(void **state) {
  (void)state;
  const char *script = put("scontrol", "#!/bin/sh\n[ \"$*\" = 'show hostnames n[1-2]' ] && echo n1 && echo n2\n");
  assert_int_equal(chmod(script, 0755), 0);
  const char *variables = "PATH=.:$PATH SLURM_JOB_NODELIST='n[1-2]'";
  assert_int_equal(launch_with(variables, "--dry-run data.dir=data run.dir=r run.peers=4 run.eval_ranks=0"), 0);
  assert_int_equal(count("--host n1:4 "), 4);
  assert_int_equal(count("--host n2:4 "), 4);
  assert_printed("--oversubscribe");
  assert_printed("--mca pml ucx");
  assert_int_equal(launch_with("PATH=.:$PATH SLURM_JOB_NODELIST=other", "--dry-run " COMMON), 5);
  assert_printed("does not name the nodes");
}

/* What a shell makes of the printed line is what was asked for. */
static void the_line_survives_a_shell(void **state) {
  (void)state;
  char command[1024];
  assert_int_equal(launch("--dry-run data.dir=data run.peers=1 run.eval_ranks=0 \"run.dir=it's \\$HOME *\""), 0);
  assert_printed(" 'run.dir=it'\\''s $HOME *' ");
  put("line", output);
  snprintf(command, sizeof command, "cd '%s' && (printf 'printf \"%%%%s\\\\n\" ' && cat line) | sh > words",
           base_folder);
  assert_int_equal(system(command), 0);
  free(output);
  output = text_of("words");
  assert_int_equal(count("\nrun.dir=it's $HOME *\n"), 2);
}

static void settings_of_the_environment_travel(void **state) {
  (void)state;
  assert_int_equal(launch_with("COV_SYNC_TOPK=32", "--dry-run -q " COMMON), 0);
  assert_printed("covenant-train sync.topk=32 ");
  assert_int_equal(count(" sync.topk=32 "), 5);
  assert_int_equal(count(" log.level=warn "), 5);
}

static void mistakes_are_found_before_the_start(void **state) {
  (void)state;
  static const struct {
    int code;
    const char *arguments, *text;
  } cases[] = {
      {2, "--dry-run " COMMON " sync.topkk=3", "did you mean 'sync.topk'"},
      {2, "--dry-run " COMMON " run.hosts=a", "run.hosts names 1 hosts"},
      {2, "--dry-run " COMMON " run.hosts=a:4,b", "'a:4' is not a host name"},
      {2, "--dry-run " COMMON " run.hosts=-x,b", "'-x' is not a host name"},
      {2, "--dry-run " COMMON " word", "word"},
      {5, "--dry-run " COMMON " -c none.yaml", "cannot read none.yaml"},
      {3, "--dry-run run.dir=r data.dir=nowhere",
       "nowhere holds no prepared data, or its preparation did not end (no manifest.yaml): "
       "covenant data prepare --input TEXT --out nowhere"},
      {5, COMMON, "bin/covenant-train is not there"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    refuse(cases[i].code, cases[i].arguments, cases[i].text);
  }
  assert_false(cov_file_exists(in_base("r"))); /* nothing was written */
}

static void a_used_run_directory_is_gone_on_with_or_refused(void **state) {
  (void)state;
  assert_ok(cov_dir_make(in_base("used/peers/1")));
  put("used/STATE", "stopped\n2 rounds\n2026-01-01T00:00:00Z\n");
  const char *never = "--dry-run data.dir=data run.dir=used run.peers=2 run.resume=never";
  const char *automatic = "--dry-run data.dir=data run.dir=used run.peers=2";
  assert_int_equal(launch(never), 0); /* it ended before its first ledger: nothing would be lost */
  put("used/peers/1/ledger", "");
  refuse(2, never, "this run directory already holds a run (stopped) and run.resume is never");
  assert_int_equal(launch(automatic), 0);
  put("used/run.yaml", "run:\n  peers: 2\nsync:\n  topk: 16\n");
  refuse(9, automatic, "holds a run with other settings: sync.topk is 64 here and 16 at ");
  put("used/run.yaml", "run:\n  peers: 3\n");
  refuse(9, automatic, "run.peers is 2 here and 3 at ");
  put("used/run.yaml", "run:\n  peers: 2\nlog:\n  level: debug\n"); /* not what peers must share */
  assert_int_equal(launch(automatic), 0);
}

static void a_locked_run_directory_is_refused(void **state) {
  (void)state;
  assert_ok(cov_dir_make(in_base("busy")));
  int fd = open(in_base("busy/lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
  refuse(2, "--dry-run data.dir=data run.dir=busy", "busy is in use by another 'covenant launch': wait");
  assert_int_equal(pwrite(fd, "4242 otherhost\n", 15, 0), 15);
  refuse(2, "--dry-run data.dir=data run.dir=busy",
         "busy is in use by another 'covenant launch' (process 4242 on host otherhost): wait");
  close(fd);
  assert_int_equal(launch("--dry-run data.dir=data run.dir=busy"), 0);
}

/* The line of --dry-run, pasted, locks nothing but its peers' ledgers. Refused before anything is looked at or written,
 * also that there are no programs here. */
static void a_run_without_launch_is_not_disturbed(void **state) {
  (void)state;
  static const char *const arguments = "data.dir=data run.dir=pasted run.peers=2";
  static cov_genesis genesis = {.protocol_version = 1, .n_members = 2, .members = {{.peer = 0}, {.peer = 1}}};
  cov_ledger *ledger;
  assert_ok(cov_dir_make(in_base("pasted/peers/1")));
  put("pasted/STATE", "stopped\n2 rounds\n2026-01-01T00:00:00Z\n");
  assert_ok(cov_ledger_create(in_base("pasted/peers/1/ledger"), &genesis, &ledger));
  refuse(2, arguments, "pasted is in use by a run that 'covenant launch' did not start (peer 1 has its ledger open): ");
  char *now = text_of("pasted/STATE");
  assert_int_equal(strncmp(now, "stopped\n", 8), 0);
  free(now);
  assert_false(cov_file_exists(in_base("pasted/lock")));
  cov_ledger_close(&ledger);
  refuse(5, arguments, "is not there or cannot be executed");
}

/* The lock ends with a process that is killed, what it wrote into the file does not. mpirun is one that ends at once.
 */
static void a_lock_of_a_dead_launch_is_taken_over(void **state) {
  (void)state;
  static const char *const names[] = {"bin/mpirun", "bin/covenant-train", "bin/covenant-sync", "bin/covenant-eval"};
  for (int i = 0; i < 4; i++) assert_int_equal(chmod(put(names[i], "#!/bin/sh\ncp dead/lock seen\n"), 0755), 0);
  assert_ok(cov_dir_make(in_base("dead")));
  put("dead/lock", "4242 otherhost\n");
  assert_int_equal(launch_with("PATH=bin:$PATH", "data.dir=data run.dir=dead run.peers=2"), 6);
  assert_printed("dead was locked by process 4242 on host otherhost, which ended without unlocking it");
  char *held = text_of("seen"), *left = text_of("dead/lock");
  assert_true(strtol(held, NULL, 10) > 1 && strtol(held, NULL, 10) != 4242); /* while it ran: its own */
  assert_string_equal(left, "");
  assert_int_equal(launch_with("PATH=bin:$PATH", "data.dir=data run.dir=dead run.peers=2"), 6);
  assert_null(strstr(output, "which ended without unlocking it"));
  free(held);
  free(left);
  for (int i = 0; i < 4; i++) unlink(in_base(names[i]));
}

/* mpirun passes signals on only when it is up; before, the one that asks for a stop ends it. */
static void a_stop_during_the_start_is_no_mystery(void **state) {
  (void)state;
  static const char *const names[] = {"bin/mpirun", "bin/covenant-train", "bin/covenant-sync", "bin/covenant-eval"};
  for (int i = 0; i < 4; i++) {
    assert_int_equal(chmod(put(names[i], "#!/bin/sh\nkill -TERM $PPID\nexec sleep 50\n"), 0755), 0);
  }
  assert_int_equal(launch_with("PATH=bin:$PATH", "data.dir=data run.dir=early run.peers=2"), 6);
  assert_printed("stopped on request while mpirun was starting; the same launch starts it again");
  for (int i = 0; i < 4; i++) unlink(in_base(names[i]));
}

/* The library's tests know many kinds of damage; here, that launch sees it before anything starts. */
static void damaged_data_are_found_before_the_start(void **state) {
  (void)state;
  char command[4096];
  snprintf(command, sizeof command, "cd '%s' && rm -rf hurt && cp -r data hurt && truncate -s -7 hurt/train-00000.npy",
           base_folder);
  assert_int_equal(system(command), 0);
  refuse(3, "data.dir=hurt run.dir=h run.peers=2", "hurt/train-00000.npy");
  assert_printed("it was cut off or changed");
  assert_int_equal(unlink(in_base("hurt/train-00000.npy")), 0);
  refuse(3, "data.dir=hurt run.dir=h run.peers=2", "hurt/train-00000.npy");
  snprintf(command, sizeof command, "cd '%s' && cp data/heldout-00000.npy hurt/train-00000.npy", base_folder);
  assert_int_equal(system(command), 0);
  refuse(3, "data.dir=hurt run.dir=h run.peers=2", "hurt/train-00000.npy");
  assert_false(cov_file_exists(in_base("h")));
}

#ifdef COVENANT_HAVE_SENTENCEPIECE
/* The vocabulary of another text, a part of it, and none. */
static void a_foreign_tokenizer_is_found_before_the_start(void **state) {
  (void)state;
  const char *inputs[] = {put_paragraphs("one.txt", 0, 300), put_paragraphs("two.txt", 300, 300)};
  const char *const folders[] = {"pieces", "others"};
  char command[4096];
  for (int i = 0; i < 2; i++) {
    cov_prepare_params p = easy_params(&inputs[i], 1, in_base(folders[i]));
    cov_prepare_result r;
    p.tokenizer = "sentencepiece";
    p.vocab = 310;
    assert_ok(cov_prepare(&p, &r));
  }
  assert_int_equal(launch("--dry-run data.dir=pieces run.dir=p run.peers=2"), 0);
  static const char *const damage[] = {"cp others/tokenizer.model pieces", "truncate -s 5000 pieces/tokenizer.model",
                                       "rm pieces/tokenizer.model"};
  static const char *const said[] = {"pieces/tokenizer.model is damaged or another: its hash is not the one in",
                                     "pieces/tokenizer.model is damaged or another: its hash is not the one in",
                                     "pieces/tokenizer.model is missing, but listed in the manifest"};
  for (int i = 0; i < 3; i++) {
    snprintf(command, sizeof command, "cd '%s' && %s", base_folder, damage[i]);
    assert_int_equal(system(command), 0);
    refuse(3, "data.dir=pieces run.dir=p run.peers=2", said[i]);
  }
  assert_false(cov_file_exists(in_base("p")));
}
#endif

static void a_file_in_the_way_is_named(void **state) {
  (void)state;
  static const char *const names[] = {"bin/mpirun", "bin/covenant-train", "bin/covenant-sync", "bin/covenant-eval"};
  for (int i = 0; i < 4; i++) assert_int_equal(chmod(put(names[i], "#!/bin/sh\n"), 0755), 0);
  put("way", "");
  assert_int_equal(launch_with("PATH=bin:$PATH", "data.dir=data run.dir=way/r run.peers=2"), 5);
  assert_printed("cannot make the folder way/r: Not a directory");
  assert_int_equal(mkdir(in_base("odd"), 0777), 0);
  assert_int_equal(mkdir(in_base("odd/lock"), 0777), 0);
  assert_int_equal(launch_with("PATH=bin:$PATH", "data.dir=data run.dir=odd run.peers=2"), 5);
  assert_printed("run.dir must be writable for you and have room");
  for (int i = 0; i < 4; i++) unlink(in_base(names[i]));
}

static void a_missing_mpirun_is_named(void **state) {
  (void)state;
  static const char *const names[] = {"bin/covenant-train", "bin/covenant-sync", "bin/covenant-eval"};
  for (int i = 0; i < 3; i++) assert_int_equal(chmod(put(names[i], "#!/bin/sh\n"), 0755), 0);
  assert_int_equal(launch_with("PATH=/nonexistent", COMMON), 2);
  assert_printed("mpirun is not in PATH");
  for (int i = 0; i < 3; i++) unlink(in_base(names[i]));
}

static void help_is_on_one_screen(void **state) {
  (void)state;
  assert_int_equal(launch("--help"), 0);
  assert_printed("covenant launch");
  assert_printed("--dry-run");
}

static int free_output(void **state) {
  (void)state;
  free(output);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(two_peers_on_one_host),
      cmocka_unit_test(two_peers_on_two_hosts),
      cmocka_unit_test(peers_on_one_named_host_share_it),
      cmocka_unit_test(slurm_nodes_are_shared_out),
      cmocka_unit_test(the_line_survives_a_shell),
      cmocka_unit_test(settings_of_the_environment_travel),
      cmocka_unit_test(mistakes_are_found_before_the_start),
      cmocka_unit_test(a_used_run_directory_is_gone_on_with_or_refused),
      cmocka_unit_test(a_locked_run_directory_is_refused),
      cmocka_unit_test(a_run_without_launch_is_not_disturbed),
      cmocka_unit_test(a_lock_of_a_dead_launch_is_taken_over),
      cmocka_unit_test(a_stop_during_the_start_is_no_mystery),
      cmocka_unit_test(damaged_data_are_found_before_the_start),
#ifdef COVENANT_HAVE_SENTENCEPIECE
      cmocka_unit_test(a_foreign_tokenizer_is_found_before_the_start),
#endif
      cmocka_unit_test(a_file_in_the_way_is_named),
      cmocka_unit_test(a_missing_mpirun_is_named),
      cmocka_unit_test(help_is_on_one_screen),
  };
  return cmocka_run_group_tests(tests, open_launch_folder, free_output);
}
