/**
 * What the unit tests share: a runner for a table of cases, and a scratch directory that is gone when they end.
 */
#ifndef DCACHE_TESTS_UNIT_UNIT_H
#define DCACHE_TESTS_UNIT_UNIT_H

#include <CUnit/Basic.h>
#include <CUnit/CUnit.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct unit_case {
    const char *name;
    void (*run)(void);
};

#define UNIT_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/** Weak, so that a test and the code it shares with others have one and the same. */
char *unit_scratch_buffer(void);

__attribute__((weak)) char *unit_scratch_buffer(void)
{
    static char path[512] = "";
    return path;
}

/** This process's scratch directory under $TMPDIR or /tmp: made at the first call, removed by unit_main(). */
static inline const char *unit_scratch(void)
{
    char *path = unit_scratch_buffer();
    if (path[0] == '\0') {
        const char *parent = getenv("TMPDIR");
        int length = snprintf(path, 512, "%s/dcache-unit-XXXXXX", parent != NULL && *parent != '\0' ? parent : "/tmp");
        if (length < 0 || length >= 512 || mkdtemp(path) == NULL) {
            perror("cannot make a scratch directory");
            exit(99);
        }
    }
    return path;
}

static inline int unit_remove_entry(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

static inline int unit_remove_scratch(void)
{
    char *path = unit_scratch_buffer();
    return path[0] == '\0' ? 0 : nftw(path, unit_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/** Run the cases in order and say how each one did. Returns 0 when all of them ran and none failed. */
static inline int unit_main(const char *suite_name, const struct unit_case cases[], size_t n)
{
    if (CU_initialize_registry() != CUE_SUCCESS)
        return 1;
    CU_pSuite suite = CU_add_suite(suite_name, NULL, NULL);
    for (size_t i = 0; i < n; i++) {
        if (suite == NULL || CU_add_test(suite, cases[i].name, cases[i].run) == NULL) {
            fprintf(stderr, "%s: cannot add the case %s\n", suite_name, cases[i].name);
            return 1;
        }
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_ErrorCode ran = CU_basic_run_tests();
    int good = ran == CUE_SUCCESS && CU_get_number_of_failures() == 0 && CU_get_number_of_tests_run() == n;
    CU_cleanup_registry();
    if (unit_remove_scratch() != 0) {
        perror("cannot remove the scratch directory");
        good = 0;
    }
    return good ? 0 : 1;
}

#endif
