/* What compilers call for copies and for zeros, where there is no C library. */

void *memcpy(void *target, const void *source, unsigned long count);
void *memset(void *target, int value, unsigned long count);

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
