# Run at build time: cmake -DSOURCE=dir -DOUTPUT=file.c -P GitCommit.cmake
# Writes one small C file with the commit of the source tree; only a change rewrites it, so only a change recompiles.
set(commit "unknown")
find_program(GIT git)
if(GIT)
  execute_process(COMMAND "${GIT}" -C "${SOURCE}" rev-parse --show-toplevel
                  OUTPUT_VARIABLE top RESULT_VARIABLE failed OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  # A release archive unpacked inside someone else's repository is not at that repository's commit.
  if(NOT failed)
    file(REAL_PATH "${SOURCE}" source_real)
    file(REAL_PATH "${top}" top_real)
    if(source_real STREQUAL top_real)
      execute_process(COMMAND "${GIT}" -C "${SOURCE}" rev-parse --short=12 HEAD
                      OUTPUT_VARIABLE head RESULT_VARIABLE failed OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
      execute_process(COMMAND "${GIT}" -C "${SOURCE}" status --porcelain --untracked-files=no
                      OUTPUT_VARIABLE changes OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
      if(NOT failed)
        set(commit "${head}")
        if(NOT changes STREQUAL "")
          string(APPEND commit "-dirty")
        endif()
      endif()
    endif()
  endif()
endif()

set(text "#include \"common/version.h\"\n\nconst char cov_git_commit[] = \"${commit}\";\n")
set(old "")
if(EXISTS "${OUTPUT}")
  file(READ "${OUTPUT}" old)
endif()
if(NOT old STREQUAL text)
  file(WRITE "${OUTPUT}" "${text}")
endif()
