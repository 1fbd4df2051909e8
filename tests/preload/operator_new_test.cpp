// operator new and delete in all their forms, and the new_handler protocol of the C++ standard.
#include <new>

#include "support.hpp"

namespace {

constexpr size_t kImpossible = static_cast<size_t>(PTRDIFF_MAX) + 1;
constexpr std::align_val_t kAlign64{64};
constexpr std::align_val_t kAlign4096{4096};

const size_t kSizes[] = {0, 1, 8, 24, 100, 2048, 2049, 4096, 32768, 32769, 200000, 3 << 20};

int handler_calls = 0;

void give_up_at_fifth_call() {
  if (++handler_calls == 5) std::set_new_handler(nullptr);
}

struct HandlerFailure {};

// libstdc++ rounds the size of its aligned forms up, which overflows for the last ones, and then hands out a small block.
std::vector<size_t> impossible_aligned_sizes() {
  std::vector<size_t> sizes = {kImpossible, static_cast<size_t>(PTRDIFF_MAX), size_t{1} << 47};
  if (library_is_expected()) sizes.insert(sizes.end(), {SIZE_MAX, SIZE_MAX - 64, SIZE_MAX - 4095});
  return sizes;
}

void throw_own_exception() {
  ++handler_calls;
  throw HandlerFailure{};
}

void throw_bad_alloc() {
  ++handler_calls;
  throw std::bad_alloc();
}

// Restores "no handler" however a test ends.
struct HandlerGuard {
  explicit HandlerGuard(std::new_handler handler) {
    handler_calls = 0;
    std::set_new_handler(handler);
  }
  ~HandlerGuard() { std::set_new_handler(nullptr); }
};

template <typename New, typename Delete>
void expect_round_trips(size_t alignment, const New& allocate, const Delete& release) {
  const size_t before = resident_bytes();
  for (size_t size : kSizes) {
    for (int round = 0; round < 40; ++round) {
      void* block = allocate(hide(size));
      ASSERT_NE(block, nullptr);
      ASSERT_EQ(reinterpret_cast<uintptr_t>(block) % alignment, 0u);
      ASSERT_GE(malloc_usable_size(block), size);
      memset(block, 1, malloc_usable_size(block));
      errno = 606;
      release(block, size);
      ASSERT_EQ(errno, 606);
    }
  }
  EXPECT_LT(resident_bytes(), before + 64 * kMiB) << "130 MiB came and went: delete did not free";
}

}  // namespace

TEST(OperatorNew, zero_size_gives_unique_blocks) {
  void* first = ::operator new(0);
  void* second = ::operator new[](0);
  EXPECT_NE(first, nullptr);
  EXPECT_NE(second, nullptr);
  EXPECT_NE(first, second);
  ::operator delete(first);
  ::operator delete[](second);
}

TEST(OperatorNew, delete_of_null_is_ignored) {
  ::operator delete(hide<void*>(nullptr));
  ::operator delete[](hide<void*>(nullptr));
  ::operator delete (hide<void*>(nullptr), size_t{8});
  ::operator delete[](hide<void*>(nullptr), size_t{8});
  ::operator delete(hide<void*>(nullptr), kAlign64);
  ::operator delete[](hide<void*>(nullptr), size_t{8}, kAlign64);
  SUCCEED();
}

TEST(OperatorNew, plain_forms) {
  expect_round_trips(
      16, [](size_t n) { return ::operator new(n); }, [](void* p, size_t) { ::operator delete(p); });
  expect_round_trips(
      16, [](size_t n) { return ::operator new[](n); }, [](void* p, size_t) { ::operator delete[](p); });
}

TEST(OperatorNew, sized_forms) {
  expect_round_trips(
      16, [](size_t n) { return ::operator new(n); }, [](void* p, size_t n) { ::operator delete(p, n); });
  expect_round_trips(
      16, [](size_t n) { return ::operator new[](n); }, [](void* p, size_t n) { ::operator delete[](p, n); });
}

TEST(OperatorNew, nothrow_forms) {
  expect_round_trips(
      16, [](size_t n) { return ::operator new(n, std::nothrow); },
      [](void* p, size_t) { ::operator delete(p, std::nothrow); });
  expect_round_trips(
      16, [](size_t n) { return ::operator new[](n, std::nothrow); },
      [](void* p, size_t) { ::operator delete[](p, std::nothrow); });
}

TEST(OperatorNew, aligned_forms) {
  expect_round_trips(
      64, [](size_t n) { return ::operator new(n, kAlign64); }, [](void* p, size_t) { ::operator delete(p, kAlign64); });
  expect_round_trips(
      4096, [](size_t n) { return ::operator new[](n, kAlign4096); },
      [](void* p, size_t) { ::operator delete[](p, kAlign4096); });
  expect_round_trips(
      4096, [](size_t n) { return ::operator new(n, kAlign4096); },
      [](void* p, size_t n) { ::operator delete(p, n, kAlign4096); });
  expect_round_trips(
      64, [](size_t n) { return ::operator new[](n, kAlign64); },
      [](void* p, size_t n) { ::operator delete[](p, n, kAlign64); });
}

TEST(OperatorNew, aligned_nothrow_forms) {
  expect_round_trips(
      64, [](size_t n) { return ::operator new(n, kAlign64, std::nothrow); },
      [](void* p, size_t) { ::operator delete(p, kAlign64, std::nothrow); });
  expect_round_trips(
      4096, [](size_t n) { return ::operator new[](n, kAlign4096, std::nothrow); },
      [](void* p, size_t) { ::operator delete[](p, kAlign4096, std::nothrow); });
}

TEST(OperatorNew, alignment_ladder) {
  for (size_t alignment = 1; alignment <= 8 * kMiB; alignment *= 2) {
    for (size_t size : kSizes) {
      void* block = ::operator new (size, std::align_val_t{alignment});
      ASSERT_EQ(reinterpret_cast<uintptr_t>(block) % alignment, 0u);
      memset(block, 3, size);
      ::operator delete (block, size, std::align_val_t{alignment});
    }
  }
}

TEST(OperatorNew, impossible_sizes_throw_bad_alloc) {
  for (size_t size : {SIZE_MAX, SIZE_MAX - 64, kImpossible, static_cast<size_t>(PTRDIFF_MAX), size_t{1} << 47}) {
    EXPECT_THROW(hide(::operator new(hide(size))), std::bad_alloc);
    EXPECT_THROW(hide(::operator new[](hide(size))), std::bad_alloc);
  }
  for (size_t size : impossible_aligned_sizes()) {
    EXPECT_THROW(hide(::operator new(hide(size), kAlign64)), std::bad_alloc);
    EXPECT_THROW(hide(::operator new[](hide(size), kAlign4096)), std::bad_alloc);
  }
}

TEST(OperatorNew, impossible_sizes_give_null_in_nothrow_forms) {
  for (size_t size : {SIZE_MAX, SIZE_MAX - 64, kImpossible, static_cast<size_t>(PTRDIFF_MAX), size_t{1} << 47}) {
    EXPECT_EQ(::operator new(hide(size), std::nothrow), nullptr);
    EXPECT_EQ(::operator new[](hide(size), std::nothrow), nullptr);
  }
  for (size_t size : impossible_aligned_sizes()) {
    EXPECT_EQ(::operator new(hide(size), kAlign64, std::nothrow), nullptr);
    EXPECT_EQ(::operator new[](hide(size), kAlign4096, std::nothrow), nullptr);
  }
}

TEST(NewHandler, is_called_until_it_gives_up) {
  auto expect_five_calls = [](const auto& allocate) {
    HandlerGuard guard(give_up_at_fifth_call);
    EXPECT_THROW(allocate(hide(kImpossible)), std::bad_alloc);
    EXPECT_EQ(handler_calls, 5);
  };
  expect_five_calls([](size_t n) { return ::operator new(n); });
  expect_five_calls([](size_t n) { return ::operator new[](n); });
  expect_five_calls([](size_t n) { return ::operator new(n, kAlign64); });
  expect_five_calls([](size_t n) { return ::operator new[](n, kAlign64); });
}

TEST(NewHandler, is_called_by_nothrow_forms_too) {
  auto expect_five_calls = [](const auto& allocate) {
    HandlerGuard guard(give_up_at_fifth_call);
    EXPECT_EQ(allocate(hide(kImpossible)), nullptr);
    EXPECT_EQ(handler_calls, 5);
  };
  expect_five_calls([](size_t n) { return ::operator new(n, std::nothrow); });
  expect_five_calls([](size_t n) { return ::operator new[](n, std::nothrow); });
  expect_five_calls([](size_t n) { return ::operator new(n, kAlign64, std::nothrow); });
  expect_five_calls([](size_t n) { return ::operator new[](n, kAlign64, std::nothrow); });
}

TEST(NewHandler, is_not_called_by_malloc_nor_on_success) {
  HandlerGuard guard(give_up_at_fifth_call);
  EXPECT_EQ(malloc(hide(kImpossible)), nullptr);
  ::operator delete(::operator new(1000));
  EXPECT_EQ(handler_calls, 0);
}

TEST(NewHandler, its_exception_reaches_the_caller) {
  HandlerGuard guard(throw_own_exception);
  EXPECT_THROW(hide(::operator new(hide(kImpossible))), HandlerFailure);
  EXPECT_THROW(hide(::operator new[](hide(kImpossible), kAlign64)), HandlerFailure);
  EXPECT_EQ(handler_calls, 2);
}

TEST(NewHandler, its_bad_alloc_becomes_null_in_nothrow_forms) {
  // In a child: an implementation that lets the exception out of a noexcept function is ended by std::terminate.
  EXPECT_CLEAN(run_in_child([] {
    handler_calls = 0;
    std::set_new_handler(throw_bad_alloc);
    CHILD_REQUIRE(::operator new(hide(kImpossible), std::nothrow) == nullptr);
    CHILD_REQUIRE(::operator new[](hide(kImpossible), std::nothrow) == nullptr);
    CHILD_REQUIRE(::operator new(hide(kImpossible), kAlign64, std::nothrow) == nullptr);
    CHILD_REQUIRE(handler_calls == 3);
    return 0;
  }));
}

TEST(NewHandler, can_free_memory_so_that_new_succeeds) {
  EXPECT_CLEAN(run_program({beside_test("new_handler_frees")}, {.limits = {{RLIMIT_AS, 512 * kMiB}}}));
}

TEST(OperatorNew, throws_in_a_plugin_of_a_c_program) {
  EXPECT_CLEAN(run_program({beside_test("cxx_plugin_of_c"), beside_test("throws_bad_alloc_plugin.so")}));
}

TEST(OperatorNew, throws_in_many_threads) {
  std::atomic<int> caught{0};
  run_threads(8, [&](size_t) {
    for (int i = 0; i < 500; ++i) {
      try {
        ::operator delete(::operator new(hide(kImpossible)));
      } catch (const std::bad_alloc&) {
        caught.fetch_add(1);
      }
      ::operator delete(::operator new(100));
    }
  });
  EXPECT_EQ(caught.load(), 4000);
}
