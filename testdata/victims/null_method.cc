// A method called on a null object: `this` is null, the fault is in the method.
#include "victim.h"
#include <string>

namespace shop {
class Basket {
public:
    explicit Basket(int limit) : limit_(limit) {}
    NOINLINE int add(const std::string &item, int amount) {
        reached();
        count_ += amount;
        return count_ < limit_ ? count_ : static_cast<int>(item.size());
    }

private:
    long padding_[4] = {};
    int count_ = 0;
    int limit_;
};

NOINLINE Basket *find(int customer) { return customer < 0 ? new Basket(customer) : nullptr; }
} // namespace shop

int main(int argc, char **argv) {
    victim_start(argc, argv);
    shop::Basket *basket = shop::find(argc);
    return basket->add("pears", 3);
}
