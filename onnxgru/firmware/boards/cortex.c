/* Start-up for a Cortex-M that an emulator runs bare: the stack, one vector, semihosting's exit. */

#include <stdint.h>

int main(void);
void start(void);

extern char stack_top[];

__attribute__((section(".vectors"), used)) static const uintptr_t vectors[16] = {
    (uintptr_t)stack_top, (uintptr_t)start, (uintptr_t)start, (uintptr_t)start,
};

static void leave(int code)
{
    const uint32_t block[2] = {0x20026, (uint32_t)code}; /* the application ended, with this code */
    register uint32_t operation __asm__("r0") = 0x20;
    register const uint32_t *argument __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : : "r"(operation), "r"(argument) : "memory");
    for (;;) {
    }
}

static int started;

void start(void)
{
    if (started) { /* a fault */
        leave(125);
    }
    started = 1;
    leave(main());
}
