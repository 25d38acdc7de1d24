# `cmake --install build/release`: the program, and its manual page and completions, which it prints itself.
include(GNUInstallDirs)
install(TARGETS puna)
if(TARGET puna_cuda)
  install(TARGETS puna_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/puna)
endif()
if(CMAKE_CROSSCOMPILING)
  return()
endif()

# puna_printed(<file> <destination> <arguments...>): what `puna <arguments>` prints becomes <file> after each link.
function(puna_printed file destination)
  set(printed ${PROJECT_BINARY_DIR}/printed/${file})
  add_custom_command(TARGET puna POST_BUILD COMMAND puna ${ARGN} > ${printed} VERBATIM)
  install(FILES ${printed} DESTINATION ${destination})
endfunction()

file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/printed)
puna_printed(puna.1 ${CMAKE_INSTALL_MANDIR}/man1 man)
puna_printed(puna ${CMAKE_INSTALL_DATADIR}/bash-completion/completions completion bash)
puna_printed(_puna ${CMAKE_INSTALL_DATADIR}/zsh/site-functions completion zsh)
puna_printed(puna.fish ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d completion fish)
