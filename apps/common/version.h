/* What --version says. Local. */
#ifndef COVENANT_COMMON_VERSION_H
#define COVENANT_COMMON_VERSION_H

#include <stdio.h>

/** Commit this program was built from, "-dirty" appended if the tree had changes, "unknown" without git. */
extern const char cov_git_commit[];
/** CMake's build type: "RelWithDebInfo", "Debug". */
extern const char cov_build_type[];

/** Release, commit, compiler, build type, and the libraries built in or "off". Works before MPI_Init. */
void cov_version_write(FILE *out);

#endif
