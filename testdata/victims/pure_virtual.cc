// A pure virtual function called from the constructor of the base: libstdc++ prints its message and aborts.
#include "victim.h"

struct Shape {
    Shape() { describe(); }
    virtual ~Shape() = default;
    virtual int sides() const = 0;
    NOINLINE void describe() const {
        reached();
        sides_ = sides();
    }
    mutable int sides_ = 0;
};

struct Square : Shape {
    int sides() const override { return 4; }
};

int main(int argc, char **argv) {
    victim_start(argc, argv);
    Square square;
    KEEP(square);
    return square.sides_;
}
