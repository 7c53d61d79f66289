/* A program without a system: it reads its own memory, goes a few calls deep, and writes to address 8. */
struct node {
    int value;
    struct node *next;
    char tag[4];
};

static struct node third = {3, 0, "c"}, second = {2, &third, "b"};
struct node list = {1, &second, "a"};
int counter = 42;

static __attribute__((noinline)) int fault(struct node *first, int depth, double ratio)
{
    int sum = depth;
    for (struct node *each = first; each; each = each->next)
        sum += each->value;
    counter += sum;
    int *nowhere = (int *)8;
    *nowhere = sum;
    return sum + (int)ratio;
}

static __attribute__((noinline)) int middle(int depth, const char *text)
{
    long local = 1000 + depth;
    if (depth > 0)
        return middle(depth - 1, text) + (int)local;
    return fault(&list, 7, 2.5) + text[0];
}

void _start(void)
{
    middle(2, "hello");
    for (;;) {
    }
}
