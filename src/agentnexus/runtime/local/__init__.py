"""The local sandbox: Linux namespaces, cgroups and seccomp around a fork of a preloaded Python; no daemon."""
