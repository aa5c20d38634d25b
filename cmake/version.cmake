# Writes the version header; an unchanged one keeps its time, so that nothing is compiled again.
execute_process(COMMAND git -c "safe.directory=${SOURCE}" -C "${SOURCE}" rev-parse --short=12 HEAD
  OUTPUT_VARIABLE REVISION OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(REVISION "unknown")
endif()
configure_file("${TEMPLATE}" "${OUTPUT}" @ONLY)
