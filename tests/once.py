"What libraries do for every process and every client, done once or not at all; imported before they are."

import functools
import gc
import sys

# Where it finds this grammar of IRIs, jsonschema compiles it when it is imported: two seconds in every process.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

# The libraries of the stand-in keep millions of objects, and looking through them took an eighth of the time.
gc.set_threshold(50_000, 50, 50)


def _read_each_description_once() -> None:
    "botocore parses megabytes of JSON and lists hundreds of folders for every client; those of a process may share."
    try:
        from botocore.loaders import JSONFileLoader, Loader
    except ImportError:
        return
    parse, found, known, services = JSONFileLoader.load_file, Loader.list_available_services, {}, {}

    def load_file(self, file_path):
        if file_path not in known:
            known[file_path] = parse(self, file_path)
        return known[file_path]

    @functools.wraps(found)
    def list_available_services(self, type_name):
        place = (type_name, *self.search_paths)
        if place not in services:
            services[place] = found(self, type_name)
        return services[place]

    JSONFileLoader.load_file = load_file
    Loader.list_available_services = list_available_services


_read_each_description_once()
