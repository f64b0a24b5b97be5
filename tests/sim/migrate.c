/* A whole migration by what gdbus-codegen makes of p2vd's XML, and by nothing else: ADDRESS SOURCE.
   Prints a line a step; ends with 1 at the first that is not as it should be. */
#include <stdio.h>
#include <stdlib.h>

#include "p2vd.h"

static GVariant *options(const char *first, GVariant *value) {
  GVariantBuilder builder;
  g_variant_builder_init(&builder, G_VARIANT_TYPE("a{sv}"));
  if (first != NULL)
    g_variant_builder_add(&builder, "{sv}", first, value);
  return g_variant_builder_end(&builder);
}

static void must(gboolean done, const char *what, GError **error) {
  if (!done) {
    printf("%s: %s\n", what, *error != NULL ? (*error)->message : "failed");
    exit(1);
  }
  printf("%s: done\n", what);
}

static void must_fail(gboolean done, const char *what, GError **error) {
  char *name = done ? NULL : g_dbus_error_get_remote_error(*error);
  printf("%s: %s\n", what, name != NULL ? name : "no error");
  g_clear_error(error);
}

static gboolean late(gpointer what) {
  printf("waited too long for %s\n", (const char *)what);
  exit(1);
}

static void await_state(P2vdMachine *machine, const char *state) {
  guint timer = g_timeout_add_seconds(180, late, (gpointer)state);
  while (g_strcmp0(p2vd_machine_get_state(machine), state) != 0)
    g_main_context_iteration(NULL, TRUE);
  g_source_remove(timer);
  printf("state: %s\n", state);
}

int main(int argc, char **argv) {
  GError *error = NULL;
  const char *sources[] = {argc == 3 ? argv[2] : "", NULL};
  char *plan_id = NULL, *path = NULL, *receipt = NULL;
  GVariant *plan = NULL;
  GDBusConnection *bus = g_dbus_connection_new_for_address_sync(
      argv[1], G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT | G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
      NULL, NULL, &error);
  must(bus != NULL, "connect", &error);
  P2vdManager *manager = p2vd_manager_proxy_new_sync(bus, 0, "org.p2vd1", "/org/p2vd1", NULL, &error);
  must(manager != NULL && p2vd_manager_get_version(manager) != NULL, "manager", &error);
  must_fail(p2vd_manager_call_plan_sync(manager, sources, options(NULL, NULL), &plan_id, &plan, NULL, &error),
            "plan without a declaration", &error);
  must_fail(p2vd_manager_call_rescan_sync(manager, options("colour", g_variant_new_string("blue")), NULL, &error),
            "rescan with a colour", &error);
  must(p2vd_manager_call_plan_sync(manager, sources, options("source-offline", g_variant_new_boolean(TRUE)), &plan_id,
                                   &plan, NULL, &error),
       "plan", &error);
  must(p2vd_manager_call_migrate_sync(manager, plan_id, options(NULL, NULL), &path, NULL, &error), "migrate", &error);
  P2vdMachine *machine = p2vd_machine_proxy_new_sync(bus, 0, "org.p2vd1", path, NULL, &error);
  must(machine != NULL && p2vd_machine_get_jobs(machine) != NULL, "machine", &error);
  P2vdJob *job = p2vd_job_proxy_new_sync(bus, 0, "org.p2vd1", p2vd_machine_get_jobs(machine)[0], NULL, &error);
  must(job != NULL && p2vd_job_get_bytes(job) > 0, "job", &error);
  must(p2vd_job_call_pause_sync(job, options(NULL, NULL), NULL, &error), "pause", &error);
  must_fail(p2vd_job_call_retry_sync(job, options(NULL, NULL), NULL, &error), "retry of what has not failed", &error);
  must(p2vd_job_call_resume_sync(job, options(NULL, NULL), NULL, &error), "resume", &error);
  await_state(machine, "registered");
  must(p2vd_job_call_get_receipt_sync(job, options(NULL, NULL), &receipt, NULL, &error), "receipt", &error);
  must(p2vd_machine_call_rollback_sync(machine, options(NULL, NULL), NULL, &error), "rollback", &error);
  await_state(machine, "rolled-back");
  return 0;
}
