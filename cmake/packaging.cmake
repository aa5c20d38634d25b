# What `cmake --install` installs, and the Debian package that CPack makes of it (scripts/package).
include(GNUInstallDirs)

# Found by dlopen through the program's run path, before the system's own.
set(private_directory "lib/troupe")
set_target_properties(troupe PROPERTIES INSTALL_RPATH "$ORIGIN/../${private_directory}" BUILD_WITH_INSTALL_RPATH ON)
# What is installed is the program alone: not everything else has to be built for it.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)
install(TARGETS troupe RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
set(onnxruntime "${PROJECT_SOURCE_DIR}/.deps/onnxruntime")
if(EXISTS "${onnxruntime}/lib/libonnxruntime.so")
  install(FILES "${onnxruntime}/lib/libonnxruntime.so" DESTINATION ${private_directory} RENAME libonnxruntime.so.1)
  install(FILES "${onnxruntime}/LICENSE" "${onnxruntime}/ThirdPartyNotices.txt" DESTINATION share/troupe/licenses/onnxruntime)
endif()

# The example file says models are in ./models; installed, nobody knows where that is.
set(installed_config "${PROJECT_BINARY_DIR}/packaging/troupe.yaml")
file(READ "${PROJECT_SOURCE_DIR}/config/troupe.yaml" text)
string(REPLACE "  directory: models              # <name>" "  directory: /var/lib/troupe/models    # <name>" changed "${text}")
if(changed STREQUAL text)
  message(FATAL_ERROR "cmake/packaging.cmake: models.directory in config/troupe.yaml is not as expected here")
endif()
file(CONFIGURE OUTPUT "${installed_config}" CONTENT "${changed}" @ONLY)
install(FILES "${installed_config}" DESTINATION /etc/troupe)

# What is in the package and no package of Debian, for the bill of materials (packaging/sbom.py).
set(components "")
if(EXISTS "${TROUPE_DEPS_PREFIX}/versions")
  file(READ "${TROUPE_DEPS_PREFIX}/versions" components)
endif()
if(EXISTS "${onnxruntime}/stamp")
  file(READ "${onnxruntime}/stamp" text)
  string(APPEND components "onnxruntime ${text}")
endif()
file(WRITE "${PROJECT_BINARY_DIR}/packaging/components" "${components}")
install(FILES "${PROJECT_BINARY_DIR}/packaging/components" DESTINATION share/troupe)

install(DIRECTORY models/ DESTINATION share/troupe/models)
install(FILES packaging/debian/troupe.service DESTINATION /usr/lib/systemd/system)
install(FILES packaging/debian/copyright DESTINATION share/doc/troupe)
# The pages that `troupe COMMAND --help` names. Slim images leave them out, and keep what is in share/troupe.
install(FILES README.md DESTINATION share/doc/troupe OPTIONAL)
install(DIRECTORY docs DESTINATION share/doc/troupe OPTIONAL FILES_MATCHING PATTERN "*.md" PATTERN images EXCLUDE)
foreach(licence librdkafka hiredis)
  if(EXISTS "${TROUPE_DEPS_PREFIX}/share/licenses/${licence}")
    install(DIRECTORY "${TROUPE_DEPS_PREFIX}/share/licenses/${licence}" DESTINATION share/troupe/licenses)
  endif()
endforeach()

set(TROUPE_MAINTAINER "Troupe <troupe@localhost>" CACHE STRING "Who maintains the Debian package: Name <address>")
set(debian_directory "${PROJECT_BINARY_DIR}/packaging")
file(GENERATE OUTPUT "${debian_directory}/conffiles" CONTENT "/etc/troupe/troupe.yaml\n")
# A package of each Debian release: it depends on that one's libraries.
set(release 1)
if(EXISTS /etc/os-release)
  file(STRINGS /etc/os-release line REGEX "^VERSION_ID=")
  if(line MATCHES "([0-9]+)")
    set(release "1+deb${CMAKE_MATCH_1}")
  endif()
endif()
# Policy wants a changelog and a page of the manual, compressed without name and time.
find_program(GZIP_PROGRAM gzip)
string(TIMESTAMP built "%a, %d %b %Y %H:%M:%S +0000" UTC)
file(WRITE "${debian_directory}/changelog.Debian" "troupe (${PROJECT_VERSION}-${release}) unstable; urgency=medium

  * Release ${PROJECT_VERSION}.

 -- ${TROUPE_MAINTAINER}  ${built}
")
execute_process(COMMAND "${GZIP_PROGRAM}" -9nkf "${debian_directory}/changelog.Debian" COMMAND_ERROR_IS_FATAL ANY)
install(FILES "${debian_directory}/changelog.Debian.gz" DESTINATION share/doc/troupe)
configure_file(packaging/debian/troupe.1 "${debian_directory}/troupe.1" COPYONLY)
execute_process(COMMAND "${GZIP_PROGRAM}" -9nkf "${debian_directory}/troupe.1" COMMAND_ERROR_IS_FATAL ANY)
install(FILES "${debian_directory}/troupe.1.gz" DESTINATION share/man/man1)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME troupe)
set(CPACK_PACKAGE_VENDOR Troupe)
set(CPACK_PACKAGE_CONTACT "${TROUPE_MAINTAINER}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_DIRECTORY "${PROJECT_BINARY_DIR}/package")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE "${release}")
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "actor runtime for model inference from Kafka, HTTP and gRPC")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "Requests come in from Kafka, over HTTP and over gRPC; supervised actors score
them under deadlines and send the predictions back, losing none.
.
Tree ensembles, linear models and small dense networks are scored by built-in
engines, other ONNX graphs by the ONNX Runtime that comes with the package.")
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${onnxruntime}/lib")
# Event Hubs, registries and identity providers are reached by TLS.
set(CPACK_DEBIAN_PACKAGE_DEPENDS "ca-certificates, passwd")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  "${debian_directory}/conffiles" "${PROJECT_SOURCE_DIR}/packaging/debian/postinst"
  "${PROJECT_SOURCE_DIR}/packaging/debian/prerm" "${PROJECT_SOURCE_DIR}/packaging/debian/postrm")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_STRIP_FILES OFF)
# Line tables go into troupe-dbgsym, so that a stack trace of the stripped program can be read.
set(CPACK_DEBIAN_DEBUGINFO_PACKAGE ON)
set(CPACK_THREADS 0)
include(CPack)
