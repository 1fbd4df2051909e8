// Reads from a shared library's file what the loader will do with it.
#pragma once

#include <elf.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

struct ElfFile {
  bool is_valid = false;
  size_t static_tls_bytes = 0;
  std::vector<std::string> needed;

  explicit ElfFile(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
    if (bytes.size() < sizeof(Elf64_Ehdr) || bytes.compare(0, SELFMAG, ELFMAG) != 0) return;
    is_valid = true;
    const auto& header = at<Elf64_Ehdr>(bytes, 0);
    for (size_t i = 0; i < header.e_phnum; ++i) {
      const auto& segment = at<Elf64_Phdr>(bytes, header.e_phoff + i * sizeof(Elf64_Phdr));
      if (segment.p_type == PT_TLS) static_tls_bytes = segment.p_memsz;
    }
    for (size_t i = 0; i < header.e_shnum; ++i) {
      const auto& section = at<Elf64_Shdr>(bytes, header.e_shoff + i * sizeof(Elf64_Shdr));
      if (section.sh_type != SHT_DYNAMIC) continue;
      const auto& strings = at<Elf64_Shdr>(bytes, header.e_shoff + section.sh_link * sizeof(Elf64_Shdr));
      for (size_t at_byte = 0; at_byte < section.sh_size; at_byte += sizeof(Elf64_Dyn)) {
        const auto& entry = at<Elf64_Dyn>(bytes, section.sh_offset + at_byte);
        if (entry.d_tag == DT_NEEDED) needed.emplace_back(&bytes[strings.sh_offset + entry.d_un.d_val]);
      }
    }
  }

 private:
  template <typename T>
  static const T& at(const std::string& bytes, size_t offset) {
    return *reinterpret_cast<const T*>(&bytes.at(offset));
  }
};
