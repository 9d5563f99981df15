// No exception may cross into Rust.
#pragma once

#include <cstring>
#include <exception>

namespace sortie {

// What an operation returns, or null with the exception's text in `error`.
template <typename Operation>
auto guarded(char* error, size_t length, Operation operation) -> decltype(operation()) {
  try {
    return operation();
  } catch (const std::exception& exception) {
    std::strncpy(error, exception.what(), length - 1);
    error[length - 1] = 0;
    return nullptr;
  } catch (...) {
    std::strncpy(error, "an exception without a text", length - 1);
    error[length - 1] = 0;
    return nullptr;
  }
}

}  // namespace sortie
