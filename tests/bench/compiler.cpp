// compiler threads nodes
//
// Translation units, one after the other. A unit is read into arenas (chunks of 64 KiB, which double every 16th) and into nodes
// that the parser allocates one by one, 24 to 120 bytes, with child lists that grow by realloc. For each function of 500 nodes
// an optimiser allocates as much again and frees all of that in order; at the end of the unit everything is freed at once.
// An operation is a malloc, realloc or free.
#include "bench.hpp"

namespace {

constexpr unsigned kUnit = 40'000, kFunction = 500;  // nodes

struct Node {
  Node* next;
  Node** children;
  uint32_t child_count, capacity;
};

class Compiler {
 public:
  explicit Compiler(unsigned id) : random_(id + 1) {}

  void unit(uint64_t nodes) {
    Node* functions = nullptr;
    for (uint64_t done = 0; done < nodes; done += kFunction) {
      optimise(functions = parse(functions));
    }
    free_all(functions);
    while (chunks_ != nullptr) {
      Chunk* const next = chunks_->next;
      give(chunks_);
      chunks_ = next;
    }
    chunk_count_ = used_ = size_ = 0;
  }
  uint64_t ops() const { return ops_; }

 private:
  struct Chunk {
    Chunk* next;
  };

  void* take(size_t bytes) {
    ops_++;
    return bench::take(bytes);
  }
  void give(void* block) {
    ops_++;
    free(block);
  }

  Node* node(Node* next) {
    const auto bytes = random_.within(sizeof(Node), 120);
    Node* const made = static_cast<Node*>(take(bytes));
    *made = {next, nullptr, 0, 0};
    return made;
  }

  // An identifier or a token, of the arena.
  void intern(size_t bytes) {
    if (used_ + bytes > size_) {
      size_ = size_t{64 << 10} << (chunk_count_++ / 16 % 5);
      auto* const chunk = static_cast<Chunk*>(take(size_));
      chunk->next = chunks_;
      chunks_ = chunk;
      used_ = sizeof(Chunk);
    }
    memset(reinterpret_cast<char*>(chunks_) + used_, 'i', bytes);
    used_ += bytes;
  }

  // A function's nodes in front of those of the others.
  Node* parse(Node* list) {
    for (unsigned i = 0; i < kFunction; ++i) {
      list = node(list);
      intern(8 + random_.below(32));
      Node* const parent = list->next;
      if (parent == nullptr) continue;
      if (parent->child_count == parent->capacity) {
        parent->capacity = parent->capacity == 0 ? 2 : 2 * parent->capacity;
        const size_t bytes = parent->capacity * sizeof(Node*);
        parent->children = static_cast<Node**>(bench::must(realloc(parent->children, bytes), bytes));
        ops_++;
      }
      parent->children[parent->child_count++] = list;
      // Some nodes have many children: the next one becomes theirs, too.
      if (random_.below(4) == 0) {
        list->next = parent->next;
        parent->next = list;
        list = parent;
      }
    }
    return list;
  }

  void optimise(const Node* function) {
    Node* copy = nullptr;
    for (unsigned i = 0; i < kFunction && function != nullptr; ++i, function = function->next) copy = node(copy);
    free_all(copy);
  }

  void free_all(Node* list) {
    while (list != nullptr) {
      Node* const next = list->next;
      if (list->children != nullptr) give(list->children);
      give(list);
      list = next;
    }
  }

  bench::Random random_;
  Chunk* chunks_ = nullptr;
  size_t used_ = 0, size_ = 0;
  unsigned chunk_count_ = 0;
  uint64_t ops_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const bench::Arguments arguments(
      argc, argv, "a compiler: many small nodes and some large arenas that are freed together at the end of each source file",
      {{"threads", 1, 1, 4096}, {"nodes", 1'000'000, 1, 1'000'000'000'000}});
  const auto threads = static_cast<unsigned>(arguments[0]);
  bench::require_preload();
  auto* laps = bench::table<bench::Lap>(threads);
  bench::Barrier barrier(threads);

  bench::in_threads(threads, [&](unsigned id) {
    Compiler compiler(id);
    barrier.wait();
    laps[id].begin = bench::now();
    for (uint64_t done = 0; done < arguments[1]; done += kUnit) {
      const uint64_t left = arguments[1] - done;
      compiler.unit(left < kUnit ? left : kUnit);
    }
    laps[id].end = bench::now();
    laps[id].ops = compiler.ops();
  });
  bench::report(laps, threads);
}
