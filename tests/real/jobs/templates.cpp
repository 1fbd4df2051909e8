// The g++ job: a translation unit that keeps the compiler busy with templates, constant evaluation and inlining.
// SCALE is the number of distinct instantiations of each family below.
#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <ranges>
#include <set>
#include <string>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

// Compiling <regex> takes a second or two whatever SCALE is: only the full job does.
#ifdef FULL
#include <regex>
#endif

#ifndef SCALE
#define SCALE 24
#endif

namespace job {

// ---- a list of types, merge-sorted at compile time -------------------------------------------------------------------
template <unsigned N>
struct Key {
  static constexpr unsigned value = (N * 2654435761u) >> 16;
  unsigned payload = N;
};

template <class... Ts>
struct List {
  static constexpr std::size_t size = sizeof...(Ts);
};

template <class A, class B>
struct Join;
template <class... As, class... Bs>
struct Join<List<As...>, List<Bs...>> {
  using type = List<As..., Bs...>;
};

template <class Done, class A, class B>
struct Merge;
template <class... Ds, class... As>
struct Merge<List<Ds...>, List<As...>, List<>> {
  using type = List<Ds..., As...>;
};
template <class... Ds, class B, class... Bs>
struct Merge<List<Ds...>, List<>, List<B, Bs...>> {
  using type = List<Ds..., B, Bs...>;
};
template <class... Ds, class A, class... As, class B, class... Bs>
struct Merge<List<Ds...>, List<A, As...>, List<B, Bs...>> {
  using type = typename std::conditional_t<(A::value <= B::value), Merge<List<Ds..., A>, List<As...>, List<B, Bs...>>,
                                           Merge<List<Ds..., B>, List<A, As...>, List<Bs...>>>::type;
};

template <unsigned First, unsigned Count>
struct Sorted {
  using type = typename Merge<List<>, typename Sorted<First, Count / 2>::type,
                              typename Sorted<First + Count / 2, Count - Count / 2>::type>::type;
};
template <unsigned First>
struct Sorted<First, 1> {
  using type = List<Key<First>>;
};

template <class L>
struct Sum;
template <class... Ts>
struct Sum<List<Ts...>> {
  static constexpr unsigned long long value = (0ull + ... + (Ts::value * 31ull));
};

// ---- expression templates ---------------------------------------------------------------------------------------------
template <class E>
struct Expression {
  constexpr const E& self() const { return static_cast<const E&>(*this); }
};
template <std::size_t N>
struct Vector : Expression<Vector<N>> {
  std::array<double, N> values{};
  constexpr double operator[](std::size_t i) const { return values[i]; }
  template <class E>
  constexpr Vector& operator=(const Expression<E>& e) {
    for (std::size_t i = 0; i < N; ++i) values[i] = e.self()[i];
    return *this;
  }
};
template <class A, class B, class Op>
struct Binary : Expression<Binary<A, B, Op>> {
  const A& a;
  const B& b;
  constexpr Binary(const A& x, const B& y) : a(x), b(y) {}
  constexpr double operator[](std::size_t i) const { return Op{}(a[i], b[i]); }
};
template <class A, class B>
constexpr auto operator+(const Expression<A>& a, const Expression<B>& b) {
  return Binary<A, B, std::plus<>>(a.self(), b.self());
}
template <class A, class B>
constexpr auto operator*(const Expression<A>& a, const Expression<B>& b) {
  return Binary<A, B, std::multiplies<>>(a.self(), b.self());
}

template <std::size_t N>
double expressions() {
  Vector<N> a, b, c;
  for (std::size_t i = 0; i < N; ++i) {
    a.values[i] = static_cast<double>(i);
    b.values[i] = 1.0 / static_cast<double>(i + 1);
  }
  c = (a + b) * (a + a * b) + (b * b + a) * (a * b + b);
  return std::accumulate(c.values.begin(), c.values.end(), 0.0);
}

// ---- containers, ranges and visitors of many types ------------------------------------------------------------------
template <unsigned N>
struct Record {
  std::string name;
  std::array<unsigned, N % 7 + 1> numbers{};
  std::optional<std::vector<std::string>> tags;
  auto operator<=>(const Record&) const = default;
};

template <unsigned N>
std::size_t containers() {
  std::map<std::string, std::vector<Record<N>>> by_name;
  std::unordered_map<unsigned, std::shared_ptr<Record<N>>> by_number;
  std::set<std::tuple<unsigned, std::string>> seen;
  for (unsigned i = 0; i < N + 3; ++i) {
    auto record = std::make_shared<Record<N>>();
    record->name = std::to_string(i * N);
    by_name[record->name].push_back(*record);
    by_number.emplace(i, record);
    seen.emplace(i, record->name);
  }
  auto even = by_number | std::views::values | std::views::filter([](const auto& r) { return r->name.size() % 2 == N % 2; }) |
              std::views::transform([](const auto& r) { return r->name.size() + N; });
  std::vector<std::size_t> sizes(even.begin(), even.end());
  std::ranges::sort(sizes);
  return std::accumulate(sizes.begin(), sizes.end(), seen.size()) + by_name.size();
}

template <unsigned N>
using Choice = std::variant<int, double, std::string, std::vector<int>, Record<N>, std::tuple<Key<N>, Key<N + 1>>>;

template <class... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};

template <unsigned N>
std::size_t visitors(const std::vector<Choice<N>>& choices) {
  std::size_t total = 0;
  for (const auto& left : choices)
    for (const auto& right : choices)
      total += std::visit(Overloaded{
                              [](const std::string& a, const std::string& b) { return a.size() + b.size() + N; },
                              [](const Record<N>& a, const Record<N>& b) { return a.name.size() + b.numbers.size(); },
                              [](const auto& a, const auto& b) { return sizeof(a) * N + sizeof(b); },
                          },
                          left, right);
  return total;
}

// ---- constant evaluation -----------------------------------------------------------------------------------------------
template <unsigned N>
consteval unsigned sieve() {
  std::vector<bool> composite(N + 1);
  unsigned primes = 0;
  for (unsigned i = 2; i <= N; ++i) {
    if (composite[i]) continue;
    ++primes;
    for (unsigned j = i * 2; j <= N; j += i) composite[j] = true;
  }
  return primes;
}

template <unsigned... Ns>
unsigned long long all(std::integer_sequence<unsigned, Ns...>) {
  unsigned long long total = 0;
  ((total += containers<Ns>()), ...);
  ((total += visitors<Ns>({1, std::string("x"), Record<Ns>{}})), ...);
  ((total += static_cast<unsigned long long>(expressions<Ns + 2>())), ...);
  ((total += Sum<typename Sorted<Ns * 100, Ns + 40>::type>::value), ...);
  ((total += sieve<500 + Ns * 20>()), ...);
  return total;
}

#ifdef FULL
bool matches(const std::string& text) {
  static const std::regex pattern("([a-z]+)([0-9]{2,4})-(x|y|z)+", std::regex::extended);
  return std::regex_search(text, pattern);
}
#else
bool matches(const std::string& text) { return text.find('-') != std::string::npos; }
#endif

}  // namespace job

int main(int argc, char** argv) {
  return static_cast<int>(job::all(std::make_integer_sequence<unsigned, SCALE>{}) % 251) + job::matches(argv[argc - 1]);
}
