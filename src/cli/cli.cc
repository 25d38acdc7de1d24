// SPDX-License-Identifier: Apache-2.0
#include "cli/cli.h"

#include <csignal>
#include <exception>
#include <filesystem>
#include <new>
#include <string>

#include "base/error.h"
#include "base/mapping_faults.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/parser.h"

namespace puna {

int run_command_line(int argc, char** argv) {
  handle_interrupts();
  tell_of_mapping_faults();
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow comes back as an error of write()
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe comes back as an error of write(), and a closed socket as one of libcurl
  try {
    if (const VerbAction action = parse_command_line(argc, argv)) action();
    return 0;
  } catch (const Error& error) {
    write_error(error.what());
    return static_cast<int>(error.kind());
  } catch (const Interrupted&) {
    return kInterruptedExit;
  } catch (const Terminated&) {
    return kTerminatedExit;
  } catch (const OutputClosed&) {
    return kOutputClosedExit;
  } catch (const std::filesystem::filesystem_error& error) {
    const Error said(ErrorKind::kBadInput, error.path1().string(), "cannot be used: " + error.code().message());
    write_error(said.what());
    return static_cast<int>(said.kind());
  } catch (const std::bad_alloc&) {
    write_error("the machine has no memory left for this");
    return static_cast<int>(ErrorKind::kNoRoom);
  } catch (const std::exception& error) {
    write_error(std::string("a defect in puna, please report it: ") + error.what());
    return static_cast<int>(ErrorKind::kInternal);
  }
}

}  // namespace puna
