/* A plugin of QEMU that counts instructions and prints their number at the end. What it needs of
   qemu-plugin.h, which no package of Debian 12 holds, is declared here. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define PUBLIC __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
typedef void translated_t(qemu_plugin_id_t id, struct qemu_plugin_tb *block);
typedef void ended_t(qemu_plugin_id_t id, void *data);

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translated_t *call);
extern void qemu_plugin_register_vcpu_tb_exec_inline(
    struct qemu_plugin_tb *block, int operation, void *target, uint64_t number);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, ended_t *call, void *data);

PUBLIC int qemu_plugin_version = 1;
PUBLIC int qemu_plugin_install(qemu_plugin_id_t id, const void *about, int count, char **options);

static uint64_t instructions;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(
        block, 0, &instructions, qemu_plugin_tb_n_insns(block));
}

static void ended(qemu_plugin_id_t id, void *data)
{
    (void)id;
    (void)data;
    fprintf(stderr, "instructions %llu\n", (unsigned long long)instructions);
}

PUBLIC int qemu_plugin_install(qemu_plugin_id_t id, const void *about, int count, char **options)
{
    (void)about;
    (void)count;
    (void)options;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
