/* A program of the build, run as people and scripts run it. */
#ifndef COVENANT_TESTS_TOOL_H
#define COVENANT_TESTS_TOOL_H

/** Both streams of the last run, cut off at 64 KiB. */
extern char test_output[1 << 16];

/** Exit code of `PROGRAM COMMAND ARGUMENTS` (COMMAND may be ""), run by a shell in `folder`. The test is skipped, with
 * a line that says so, where the program is not built. */
int test_tool(const char *folder, const char *program, const char *command, const char *arguments);
/** Fails unless `what` is in test_output. */
void assert_printed(const char *what);
/** Lines in test_output. */
int printed_lines(void);

#endif
