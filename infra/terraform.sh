#!/bin/sh
# terraform.sh ARGS...: terraform, with the AWS provider found on this machine where the registry cannot be reached.
#
# Looked for in this order: the caller's own CLI configuration, $TF_PLUGIN_MIRROR, the usual places for a mirror.
# Where there is none, `init` downloads the provider; where that fails too, Terraform says so and stops.
set -eu

provider=registry.terraform.io/hashicorp/aws

if [ ! -f "${TF_CLI_CONFIG_FILE:-$HOME/.terraformrc}" ]; then
    unset TF_CLI_CONFIG_FILE
    for place in "${TF_PLUGIN_MIRROR:-}" "$HOME"/.terraform.d/plugins /usr/share/terraform/* /usr/local/share/terraform/* /opt/*; do
        if [ -n "$place" ] && [ -d "$place/$provider" ]; then
            config=$(mktemp)
            trap 'rm -f "$config"' EXIT
            printf 'provider_installation {\n  filesystem_mirror {\n    path = "%s"\n  }\n}\n' "$place" > "$config"
            export TF_CLI_CONFIG_FILE="$config"
            break
        fi
    done
fi

TF_IN_AUTOMATION=1 CHECKPOINT_DISABLE=1 terraform "$@"
