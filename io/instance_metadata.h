/**
 * The instance metadata service of an Azure virtual machine: what the machine is called, where it is, and what is going
 * to happen to it (Scheduled Events). What it says is not trusted to be well formed.
 */
#ifndef DCACHE_IO_INSTANCE_METADATA_H
#define DCACHE_IO_INSTANCE_METADATA_H

#include "io/http.h"

#define INSTANCE_METADATA_URL      "http://169.254.169.254"
#define INSTANCE_METADATA_NAME_MAX 128
#define SCHEDULED_EVENTS_MAX       32

/** Where this virtual machine is; fields that the service does not give are "". */
struct instance_place {
    char name[INSTANCE_METADATA_NAME_MAX];         /**< of the machine, as events name it */
    char zone[INSTANCE_METADATA_NAME_MAX];         /**< availability zone */
    char fault_domain[INSTANCE_METADATA_NAME_MAX]; /**< platformFaultDomain */
};

enum scheduled_kind {
    SCHEDULED_FREEZE,   /**< stands still for seconds */
    SCHEDULED_REBOOT,   /**< memory is lost */
    SCHEDULED_REDEPLOY, /**< memory and local disks are lost */
    SCHEDULED_LEAVE     /**< Preempt, Terminate: the machine is gone for good */
};

struct scheduled_event {
    uint64_t id; /**< a digest of EventId: the same in every answer that has the event */
    enum scheduled_kind kind;
    int64_t not_before; /**< seconds since 1970; 0 = has started, or is not said */
};

/** Those that concern one machine. */
struct scheduled_events {
    size_t count;
    struct scheduled_event list[SCHEDULED_EVENTS_MAX];
};

/** Does this machine say of itself that it is an Azure virtual machine? Asks the firmware's tables, not the network. */
bool instance_metadata_on_azure(void);

/** The service that the option `events` names: INSTANCE_METADATA_URL for "auto" on an Azure virtual machine, the
 * option's own URL, or NULL when there is none to ask. */
const char *instance_metadata_events_url(const char *option);

/** What becomes of a machine: "be rebooted". */
const char *scheduled_kind_text(enum scheduled_kind kind);

/** How long to ask, and what ends it early. */
struct instance_patience {
    double timeout_s;
    const atomic_bool *cancel; /**< or NULL */
};

/** Ask where the machine is. DCACHE_ERR_STORE: no answer, or none that can be read; the text names the URL. Other
 * statuses: as http_perform(). */
dcache_status_t instance_metadata_place(struct diag *dg, struct http_client *client, const char *base,
                                        const struct instance_patience *patience,
                                        struct instance_place *place) DCACHE_MUST_CHECK;

/** Ask for the events of the machine called `name`; "" = not known: then every event is taken to concern it. Statuses
 * as above. */
dcache_status_t instance_metadata_events(struct diag *dg, struct http_client *client, const char *base,
                                         const struct instance_patience *patience, const char *name,
                                         struct scheduled_events *events) DCACHE_MUST_CHECK;

/** What an answer says: for the function above and for tests. DCACHE_ERR_STORE: it is not what the service sends. */
dcache_status_t instance_metadata_parse_events(struct diag *dg, const char *text, size_t bytes, const char *name,
                                               struct scheduled_events *events) DCACHE_MUST_CHECK;

#endif
