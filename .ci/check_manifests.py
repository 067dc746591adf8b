#!/usr/bin/env python3
"""Builds the manifests for Kubernetes with kustomize, and validates what it builds against the schemas of Kubernetes.

Unknown fields are errors. The tox environment `lint` brings kubectl, which contains kustomize, and the schemas.
"""

import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import yaml

MANIFESTS = Path(__file__).parents[1] / "deploy" / "kubernetes"
BUILT = ("overlays/single", "overlays/cluster", "nats", "example")
VERSIONS = ("1.30", "1.37")
"""The first version that has all fields that are used, and the last one that the schemas are there for."""

CUSTOM = ("monitoring.coreos.com/v1",)
"""These have no schema in Kubernetes itself: they are custom resources of the Prometheus Operator."""


def built(folder: Path) -> list[dict[str, object]]:
    """Return the objects that kustomize makes of a folder."""
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - a command of this file
    return list(yaml.safe_load_all(done.stdout))


def main() -> None:
    """Validate all overlays. Exits with a message if one is invalid."""
    found = {name: built(MANIFESTS / name) for name in BUILT}
    checked = 0
    for name, objects in found.items():
        for each in objects:
            if each["apiVersion"] in CUSTOM:
                continue
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(each, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    sys.exit(f"{name}: {each['kind']}, Kubernetes {version}: {error.message} at {list(error.path)}")
                checked += 1
    print(f"{checked} objects are valid")


if __name__ == "__main__":
    main()
