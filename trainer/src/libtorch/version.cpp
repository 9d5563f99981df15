// Which libtorch is loaded, by its own account.

#include <ATen/Version.h>

#include <cstring>
#include <string>

#include "guarded.h"

extern "C" {

// Writes libtorch's description of itself; null where it fails.
void* sortie_show_config(char* text, size_t text_bytes, char* error, size_t error_bytes) {
  return sortie::guarded(error, error_bytes, [&]() -> void* {
    const std::string config = at::show_config();
    std::strncpy(text, config.c_str(), text_bytes - 1);
    text[text_bytes - 1] = 0;
    return text;
  });
}

}  // extern "C"
