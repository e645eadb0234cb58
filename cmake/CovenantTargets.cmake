# Flags that every target of ours shares, and the one call that registers tests.

add_library(covenant_flags INTERFACE)
target_compile_definitions(covenant_flags INTERFACE _GNU_SOURCE)
target_compile_options(covenant_flags INTERFACE
  # The outer step must give the same bits everywhere: no contraction, no fast-math (docs/numerics.md).
  $<$<COMPILE_LANGUAGE:C>:-ffp-contract=off -fno-fast-math>
  $<$<COMPILE_LANGUAGE:C>:-Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith -Wundef>
  $<$<AND:$<BOOL:${COVENANT_WERROR}>,$<COMPILE_LANGUAGE:C>>:-Werror>
  -fno-omit-frame-pointer)
if(CMAKE_BUILD_TYPE MATCHES "Release|RelWithDebInfo")
  target_compile_options(covenant_flags INTERFACE $<$<COMPILE_LANGUAGE:C>:-O3>)
endif()
foreach(feature ONEDNN BLAS SENTENCEPIECE SODIUM JANSSON CUDA)
  if(COVENANT_HAVE_${feature})
    target_compile_definitions(covenant_flags INTERFACE COVENANT_HAVE_${feature}=1)
  endif()
endforeach()
if(COVENANT_SANITIZE)
  target_compile_options(covenant_flags INTERFACE
    $<$<NOT:$<COMPILE_LANGUAGE:CUDA>>:-fsanitize=${COVENANT_SANITIZE} -fno-sanitize-recover=all>)
  target_link_options(covenant_flags INTERFACE -fsanitize=${COVENANT_SANITIZE})
endif()

# Tests describe themselves: a comment "covenant-test: np=1,2,4 timeout=60 labels=a,b" anywhere in the first lines of
# the source. Without np the test runs serially, without MPI. The folder gives the first label (unit, golden, mpi, …).
function(cov_add_test_file source)
  get_filename_component(name "${source}" NAME_WE)
  get_filename_component(folder "${source}" DIRECTORY)
  get_filename_component(label "${folder}" NAME)
  file(STRINGS "${source}" directives REGEX "covenant-test:" LIMIT_COUNT 1)
  set(np "")
  set(timeout 60)
  set(labels "${label}")
  if(directives MATCHES "np=([0-9,]+)")
    string(REPLACE "," ";" np "${CMAKE_MATCH_1}")
  endif()
  if(directives MATCHES "timeout=([0-9]+)")
    set(timeout "${CMAKE_MATCH_1}")
  endif()
  if(COVENANT_SANITIZE) # several times slower
    math(EXPR timeout "${timeout} * 4")
  endif()
  if(directives MATCHES "labels=([a-z0-9,]+)")
    string(REPLACE "," ";" more "${CMAKE_MATCH_1}")
    list(APPEND labels ${more})
  endif()
  add_executable(${name} "${source}")
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests/support")
  target_link_libraries(${name} PRIVATE covenant_core covenant_test_support PkgConfig::cmocka)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  set(env "COVENANT_SHARED=${COVENANT_SHARED}" "COVENANT_SOURCE=${PROJECT_SOURCE_DIR}"
      "COVENANT_BIN=${CMAKE_BINARY_DIR}/bin" "OMPI_ALLOW_RUN_AS_ROOT=1" "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
      "PRTE_ALLOW_RUN_AS_ROOT=1" "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1" "OMP_NUM_THREADS=1" "OPENBLAS_NUM_THREADS=1"
      "OMPI_MCA_rmaps_base_oversubscribe=1" "OMPI_MCA_btl_vader_single_copy_mechanism=none")
  if(COVENANT_SANITIZE)
    # Open MPI's own leaks are suppressed by function name, for which the whole stack is needed.
    list(APPEND env "ASAN_OPTIONS=fast_unwind_on_malloc=0"
         "LSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/cmake/lsan.supp:print_suppressions=0")
  endif()
  if(np)
    foreach(n IN LISTS np)
      add_test(NAME ${name}.np${n}
               COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${n} --oversubscribe --bind-to none $<TARGET_FILE:${name}>)
      set_tests_properties(${name}.np${n} PROPERTIES LABELS "${labels}" TIMEOUT ${timeout} ENVIRONMENT "${env}"
                           PROCESSORS 2 SKIP_RETURN_CODE 77)
    endforeach()
  else()
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES LABELS "${labels}" TIMEOUT ${timeout} ENVIRONMENT "${env}" SKIP_RETURN_CODE 77)
  endif()
endfunction()
