// The containers and helpers of the C++ standard library, each empty, small and nested.
#include "victim.h"
#include <array>
#include <atomic>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

struct Item {
    int id;
    std::string name;
};

NOINLINE std::size_t sequences(const std::string &by_reference, std::vector<int> by_value) {
    std::string empty, small = "short", large(100, 'L'), binary("a\0b\xff", 4);
    std::vector<int> none;
    std::vector<std::string> strings{"one", "two", large};
    std::vector<bool> bits{true, false, true, true};
    std::vector<std::vector<int>> nested{{1}, {2, 3}, {}};
    std::vector<Item> items{{1, "first"}, {2, "second"}};
    std::array<int, 3> fixed{4, 5, 6};
    std::array<int, 0> fixed_none{};
    std::deque<int> queue;
    for (int i = 0; i < 300; i++)
        queue.push_back(i);
    queue.pop_front();
    std::deque<std::string> queue_none;
    std::list<int> list{7, 8, 9}, list_none;
    std::string *heap = new std::string("on the heap");
    KEEP(empty); KEEP(small); KEEP(large); KEEP(binary); KEEP(none); KEEP(strings); KEEP(bits); KEEP(nested);
    KEEP(items); KEEP(fixed); KEEP(fixed_none); KEEP(queue); KEEP(queue_none); KEEP(list); KEEP(list_none); KEEP(heap);
    finish();
    return by_reference.size() + by_value.size() + queue.size() + list.size();
}

NOINLINE std::size_t associative(int n) {
    std::map<int, std::string> map{{1, "one"}, {2, "two"}, {3, "three"}}, map_none;
    std::set<std::string> set{"b", "a", "c"};
    std::unordered_map<std::string, int> hash{{"x", 1}}, hash_none;
    std::map<std::string, std::vector<int>> deep{{"k", {1, 2}}};
    KEEP(map); KEEP(map_none); KEEP(set); KEEP(hash); KEEP(hash_none); KEEP(deep);
    return map.size() + set.size() + hash.size() + sequences("by reference", std::vector<int>(3, n));
}

NOINLINE std::size_t helpers(std::string_view view, std::shared_ptr<Item> shared) {
    std::unique_ptr<Item> unique = std::make_unique<Item>(Item{3, "unique"}), unique_none;
    std::shared_ptr<Item> second = shared, shared_none;
    std::weak_ptr<Item> weak = shared;
    std::optional<int> some = 5, nothing;
    std::optional<std::string> some_text = "text";
    std::variant<int, double, std::string> variant = 2.5, variant_text = std::string("chosen");
    std::atomic<int> atomic{13};
    std::atomic<bool> atomic_flag{true};
    std::string_view view_none;
    std::pair<int, std::string> pair{1, "pair"};
    KEEP(unique); KEEP(unique_none); KEEP(second); KEEP(shared_none); KEEP(weak); KEEP(some); KEEP(nothing);
    KEEP(some_text); KEEP(variant); KEEP(variant_text); KEEP(atomic); KEEP(atomic_flag); KEEP(view_none); KEEP(pair);
    KEEP(view);
    return view.size() + associative(some.value_or(0));
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    std::string text = "a view of this";
    return static_cast<int>(helpers(std::string_view(text).substr(2, 4), std::make_shared<Item>(Item{argc, "shared"})));
}
