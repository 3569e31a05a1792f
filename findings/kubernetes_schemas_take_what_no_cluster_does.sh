#!/bin/sh
# One would guess: a manifest with a misspelled member is refused by Kubernetes' published schemas, and one that they accept whole
# is one that an API server takes.
# What happens: the schemas let unknown members pass, so `terminationGracePeriodSecond` and `readinesProbe` are valid, and the pod has
# neither; kubernetes-validate refuses them only if it is asked to be strict, which is not the default.  Strict too, it accepts a
# Deployment whose selector can't match its own pods, a port beyond 65535, a mount of a volume that the pod has not, and a time
# limit below 0: an API server refuses each of the four ("selector does not match template labels", "must be between 1 and 65535,
# inclusive", "Not found", "must be greater than or equal to 0"; those rules are Go code, which no schema holds).
# Why it matters to us: `darkroom kubernetes` writes manifests that were never near a cluster when they are reviewed.  So its tests
# are strict, its values are narrower than the schemas (supervisor/kubernetes/kinds.py), and tests/cli/kubernetes/test_references.py
# looks for what each reference names.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq "kubernetes-validate==1.37.0"
"$folder/venv/bin/python" - <<'PY'
import copy
import importlib.metadata
import sys

import kubernetes_validate

LABELS = {"app": "a"}
GOOD = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "a"},
    "spec": {
        "selector": {"matchLabels": LABELS},
        "template": {
            "metadata": {"labels": LABELS},
            "spec": {"containers": [{"name": "a", "image": "a:1"}]},
        },
    },
}


def changed(change):
    each = copy.deepcopy(GOOD)
    change(each["spec"]["template"]["spec"], each["spec"]["template"]["spec"]["containers"][0], each["spec"])
    return each


CASES = {
    "as it should be": GOOD,
    "misspelled: terminationGracePeriodSecond": changed(lambda pod, _, __: pod.update(terminationGracePeriodSecond=30)),
    "misspelled: readinesProbe": changed(lambda _, container, __: container.update(readinesProbe={})),
    "a selector that can't match its pods": changed(lambda _, __, spec: spec.update(selector={"matchLabels": {"app": "b"}})),
    "port 99999": changed(lambda _, container, __: container.update(ports=[{"containerPort": 99999}])),
    "a volume that is not there": changed(
        lambda _, container, __: container.update(volumeMounts=[{"name": "none", "mountPath": "/a"}])
    ),
    "terminationGracePeriodSeconds: -1": changed(lambda pod, _, __: pod.update(terminationGracePeriodSeconds=-1)),
}


def accepted(manifest, is_strict):
    try:
        kubernetes_validate.validate(manifest, "1.37", strict=is_strict)
    except kubernetes_validate.ValidationError:
        return False
    return True


print("kubernetes-validate", importlib.metadata.version("kubernetes-validate"), "(as by default, strict):")
seen = {}
for name, manifest in CASES.items():
    seen[name] = (accepted(manifest, False), accepted(manifest, True))
    print("  ", *seen[name], name)
sys.exit(seen != {name: (True, not name.startswith("misspelled")) for name in CASES})
PY
