"""What is named: plug-ins by a name, code of the user's own, and what a process may import at all."""

from autoprune.registry._factory import call_factory, find_factory, is_factory
from autoprune.registry._registry import Registry, import_object, nearest
from autoprune.registry._trust import NotAllowedError, allow, check_name, named_in, only, only_named_by, require

__all__ = [
    "NotAllowedError",
    "Registry",
    "allow",
    "call_factory",
    "check_name",
    "find_factory",
    "import_object",
    "is_factory",
    "named_in",
    "nearest",
    "only",
    "only_named_by",
    "require",
]
