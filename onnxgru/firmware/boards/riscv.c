/* Start-up for a RISC-V program that an emulator runs as a process: Linux's exit. */

int main(void);
void _start(void);

void _start(void)
{
    register long code __asm__("a0") = main();
    register long call __asm__("a7") = 93;
    __asm__ volatile("ecall" : : "r"(code), "r"(call) : "memory");
    for (;;) {
    }
}
