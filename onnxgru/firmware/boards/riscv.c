/* Start-up for a RISC-V program that an emulator runs as a process: Linux's exit. */

int main(void);
void _start(void);
void *memcpy(void *target, const void *source, unsigned long count);
void *memset(void *target, int value, unsigned long count);

void _start(void)
{
    register long code __asm__("a0") = main();
    register long call __asm__("a7") = 93;
    __asm__ volatile("ecall" : : "r"(code), "r"(call) : "memory");
    for (;;) {
    }
}

void *memcpy(void *target, const void *source, unsigned long count)
{
    char *to = target;
    const char *from = source;
    for (; count > 0; --count) {
        *(volatile char *)to++ = *from++;
    }
    return target;
}

void *memset(void *target, int value, unsigned long count)
{
    char *to = target;
    for (; count > 0; --count) {
        *(volatile char *)to++ = (char)value;
    }
    return target;
}
