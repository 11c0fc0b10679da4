/* SPDX-License-Identifier: MIT */
/*
 * The sandbox of the VMM process (base/sandbox.h), step by step with the machine's threads.
 *
 * The filter of the whole process is loaded when every thread has come to rest in a place it
 * knows: the vCPUs parked, the I/O threads after a job. Each then narrows itself.
 */
#include "machine/machine_private.h"

#include "base/report.h"
#include "base/sandbox.h"
#include "io/io_pool.h"
#include "io/net_slirp.h"

static void confine_io_restrict(void *opaque)
{
    sandbox_restrict(opaque, SANDBOX_CLASS_IO);
}

static void confine_io_filter(void *opaque)
{
    sandbox_filter_thread(opaque, SANDBOX_CLASS_IO);
}

void machine_confine(struct machine *m, const char *unlink_dir)
{
    struct sandbox_options options = {
        .mode = m->config->sandbox, .unlink_dir = unlink_dir,
        .killable = m->net != NULL ? net_slirp_supervisor(m->net) : 0,
        .kvm = accel_is_kvm(m->accel), /* a guest that starts on it may come back to it */
        .kvm_apics = m->accel->apic != NULL,
    };

    if (options.mode == SANDBOX_OFF) {
        report_warn("-sandbox off: a guest that breaks out of pvemu can do whatever you can");
    }
    m->sandbox = sandbox_new(&options);
    if (m->sandbox != NULL) {
        sandbox_restrict(m->sandbox, SANDBOX_CLASS_MAIN);
        io_pool_each(m->io_pool, confine_io_restrict, m->sandbox);
    }
}

void confine_filter(struct machine *m)
{
    g_autofree char *missing = NULL;

    if (m->sandbox == NULL) {
        return;
    }
    g_mutex_lock(&m->board.lock);
    run_park(m);
    g_mutex_unlock(&m->board.lock);
    sandbox_filter_process(m->sandbox);
    io_pool_each(m->io_pool, confine_io_filter, m->sandbox);
    sandbox_filter_thread(m->sandbox, SANDBOX_CLASS_MAIN);
    missing = sandbox_missing(m->sandbox);
    if (missing != NULL) {
        report_warn("sandbox: %s", missing);
    }
}

/* With KVM each exit would pay for a second filter: the process's has to do (docs/sandbox.md). */
void confine_vcpu(struct machine *m)
{
    if (!accel_is_kvm(m->accel)) {
        sandbox_filter_thread(m->sandbox, SANDBOX_CLASS_VCPU);
    }
}
