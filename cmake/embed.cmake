# Files as bytes in a C++ source: cmake -DOUTPUT=x.cpp -DHEADER=runtime/x.hpp -DNAMESPACE=n -DFILES="function=path;..." -P embed.cmake
# Each becomes `std::string_view function()`, which HEADER declares.
set(text "#include \"${HEADER}\"\n\nnamespace ${NAMESPACE} {\n")
foreach(one IN LISTS FILES)
  string(REGEX MATCH "^([a-z_]+)=(.*)$" found "${one}")
  set(name "${CMAKE_MATCH_1}")
  file(READ "${CMAKE_MATCH_2}" bytes HEX)
  string(REGEX REPLACE "(................................................)" "\\1\n" bytes "${bytes}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(APPEND text "\nnamespace {\nconstexpr unsigned char ${name}_bytes[] = {\n${bytes}\n};\n}  // namespace\n"
    "std::string_view ${name}() {\n  return {reinterpret_cast<const char*>(${name}_bytes), sizeof ${name}_bytes};\n}\n")
endforeach()
file(WRITE "${OUTPUT}" "${text}\n}  // namespace ${NAMESPACE}\n")
