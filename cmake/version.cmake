# Writes the version header; an unchanged one keeps its time, so that nothing is compiled again.
# A build without the repository's history (in a container) is told the commit by TROUPE_REVISION.
set(REVISION "$ENV{TROUPE_REVISION}")
if(NOT REVISION)
  execute_process(COMMAND git -c "safe.directory=${SOURCE}" -C "${SOURCE}" rev-parse --short=12 HEAD
    OUTPUT_VARIABLE REVISION OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(failed)
    set(REVISION "unknown")
  endif()
endif()
configure_file("${TEMPLATE}" "${OUTPUT}" @ONLY)
