// Packs: how free blocks travel to another thread. A list of packs; a pack is a free block, its carrier, and the blocks whose
// addresses are written in it. So who takes the list reads one cache line for eight blocks, not one line a block of which each
// tells where the next is: on another processor's lines that is a wait each. And but for the carriers it finds its blocks as
// it gave them away.
//
//   carrier:  word 0      address of the next pack's carrier; in the 16 bits above it, how many addresses follow
//             word 1...   those, as many as fit into the block
//
// A list of blocks linked through their first words is one of packs, too, each of which is its carrier alone.
// Owner: as of any list of free blocks, the thread that has it.
#pragma once

#include "hz3/central.hpp"

namespace hz3::remote {

// The kernel gives out no address above 2^47 (x86-64) or 2^48 (aarch64) unless it is asked for one.
inline constexpr unsigned kCountShift = 48;
inline void* address_in(uintptr_t word) { return reinterpret_cast<void*>(word & ((uintptr_t{1} << kCountShift) - 1)); }

class Packs {
 public:
  static constexpr unsigned kMostBlocks = 64;  // of a pack, whose carrier is written to in as many words at most

  // Adds a block of `bytes`, which may become a carrier.
  void add(void* block, size_t bytes) {
    if (room_ == 0) return add_carrier(block, 0, bytes);
    count_++;
    room_--;
    set_link(end_, block);
    end_ += sizeof block;
    set_link(open_, static_cast<char*>(link_of(open_)) + (uintptr_t{1} << kCountShift));
  }
  // The same for one in which the addresses of `held` others are written already.
  void add_carrier(void* block, unsigned held, size_t bytes) {
    count_ += 1 + held;
    if (first_ == nullptr) last_ = block;
    set_link(block, static_cast<char*>(first_) + (uintptr_t{held} << kCountShift));
    first_ = block;
    if (const unsigned room = room_in(bytes) - held; room > room_) {
      open_ = block;
      end_ = static_cast<char*>(block) + (1 + held) * sizeof block;
      room_ = room;
    }
  }
  void* first() const { return first_; }
  void* last() const { return last_; }
  unsigned count() const { return count_; }  // of blocks

  // How many addresses fit into a carrier of `bytes`.
  static constexpr unsigned room_in(size_t bytes) {
    const size_t words = bytes / sizeof(void*);
    return static_cast<unsigned>(words < kMostBlocks ? words : kMostBlocks) - 1;
  }
  // Joins a list to the one whose last carrier this is.
  static void set_next(void* last, void* next) {
    const uintptr_t word = reinterpret_cast<uintptr_t>(link_of(last));
    set_link(last, reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(next) + (word >> kCountShift << kCountShift)));
  }
  // Calls take(block) for each block of a list, which may then be written to.
  template <typename Take>
  static void for_each(void* list, Take take) {
    while (list != nullptr) {
      void* const carrier = list;
      const uintptr_t word = reinterpret_cast<uintptr_t>(link_of(carrier));
      list = address_in(word);
      __builtin_prefetch(list);
      for (uintptr_t i = 1; i <= word >> kCountShift; i++) take(static_cast<void**>(carrier)[i]);
      take(carrier);
    }
  }

 private:
  void* first_ = nullptr;
  void* last_ = nullptr;
  void* open_ = nullptr;  // the carrier that the next address goes into
  char* end_ = nullptr;   // where in it
  unsigned room_ = 0;     // for how many
  unsigned count_ = 0;
};

}  // namespace hz3::remote
