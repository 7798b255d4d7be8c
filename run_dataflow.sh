#!/usr/bin/env bash
# Submits the streaming job to Dataflow with the defaults of production. docs/dataflow.md has the reasons.
# Settings are assigned by name, which shellcheck can't follow:
# shellcheck disable=SC2154
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: run_dataflow.sh --project P --region R --bucket B --subscription S --dataset D [OPTION...] [-- MORE...]

Reads login and payment events from a Pub/Sub subscription, scores them, and writes the result tables to BigQuery,
as a streaming job on Dataflow. Every setting is a flag, or the variable beside it; the flag wins.

where it runs
  --project ID               PROJECT              the Cloud project (required)
  --region REGION            REGION               such as europe-west1 (required)
  --bucket BUCKET            BUCKET               for the job's files: gs://BUCKET/dataflow/temp and .../staging
  --temp-location GS_PATH    TEMP_LOCATION        instead of those in the bucket
  --staging-location GS_PATH STAGING_LOCATION
what it reads and writes
  --subscription NAME        SUBSCRIPTION         a name, or projects/P/subscriptions/NAME (required)
  --dataset NAME             DATASET              a name, or project.dataset (required); its tables are made by
                                                  `fraud-pipeline tables create`
  --timestamp-attribute NAME TIMESTAMP_ATTRIBUTE  message attribute with the event time (publish time)
  --rules FILE               RULES                rules in YAML (those shipped)
  --lists FILE               LISTS                deny, allow and watch lists in YAML (none)
  --rules-refresh-seconds N  RULES_REFRESH_SECONDS  how often workers read both again, at gs:// (they travel with the job)
how it runs
  --job-name NAME            JOB_NAME             one running job a name and region (fraud-pipeline)
  --service-account EMAIL    SERVICE_ACCOUNT      what workers run as (the project's default: give one with less power)
  --subnetwork SUBNETWORK    SUBNETWORK           regions/REGION/subnetworks/NAME, with Private Google Access
  --machine-type TYPE        MACHINE_TYPE         (n2-standard-2)
  --max-workers N            MAX_WORKERS          ceiling of the autoscaling (10)
  --delivery MODE            DELIVERY             exactly-once, or at-least-once: cheaper and faster; an event can then
                                                  be counted twice in the ledger, though it is scored once (exactly-once)
what is done
  --update                                        replace the running job of that name, keeping its state
  --dry-run                                       check everything, show the command, submit nothing, use no network (but for
                                                  rules and lists at gs://)
  -- MORE...                                      goes to `fraud-pipeline run` and to Beam as it is

examples
  run_dataflow.sh --dry-run --project my-project --region europe-west1 --bucket my-bucket \
    --subscription events --dataset fraud
  PROJECT=my-project REGION=europe-west1 BUCKET=my-bucket SUBSCRIPTION=events DATASET=fraud run_dataflow.sh --update
  run_dataflow.sh ... -- --gap-seconds 600 --use_public_ips
USAGE
}

fail() {
  echo "run_dataflow.sh: $1" >&2
  exit 2
}

settings="project region bucket temp_location staging_location subscription dataset timestamp_attribute rules
  lists rules_refresh_seconds job_name service_account subnetwork machine_type max_workers delivery"
for name in $settings; do
  variable=$(tr '[:lower:]' '[:upper:]' <<<"$name")
  printf -v "$name" '%s' "${!variable:-}"
done
update='' dry_run=''

while (($#)); do
  case $1 in
    -h | --help) usage && exit ;;
    --update) update=1 ;;
    --dry-run) dry_run=1 ;;
    --) shift && break ;;
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
    --*)
      name=${1#--} && name=${name//-/_}
      [[ " ${settings//$'\n'/ } " == *" $name "* ]] ||
        fail "unknown option $1; --help lists them, and Beam's own go after --"
      (($# > 1)) && [[ $2 != --* ]] || fail "$1 has no value; give one after it"
      printf -v "$name" '%s' "$2" && shift
      ;;
    *) fail "unexpected '$1'; options start with --" ;;
  esac
  shift
done

# need SETTING PATTERN EXAMPLE
need() {
  local flag=--${1//_/-} value=${!1}
  [[ $value ]] || fail "$flag is missing; give it, or the variable $(tr '[:lower:]' '[:upper:]' <<<"$1"), such as $3"
  [[ $value =~ ^($2)$ ]] || fail "$flag '$value' is wrong; give one such as $3"
}

# may SETTING PATTERN EXAMPLE
may() {
  [[ -z ${!1} ]] || need "$@"
}

name_pattern='[a-z][a-z0-9-]{4,28}[a-z0-9]'
need project "$name_pattern" my-project
need region '[a-z]+-[a-z]+[0-9]+' europe-west1
bucket=${bucket#gs://} bucket=${bucket%/}
[[ $temp_location && $staging_location ]] || need bucket '[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]' my-bucket
temp_location=${temp_location:-gs://$bucket/dataflow/temp}
staging_location=${staging_location:-gs://$bucket/dataflow/staging}
# Beam asks the network about a path that isn't one, and waits without end.
for name in temp_location staging_location; do
  need "$name" 'gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]/[^[:space:]]*' gs://my-bucket/dataflow/temp
done
[[ $subscription != */* && $subscription ]] && subscription=projects/$project/subscriptions/$subscription
need subscription "projects/$name_pattern/subscriptions/[A-Za-z][A-Za-z0-9._~+%-]{2,254}" events
[[ $dataset != *.* && $dataset ]] && dataset=$project.$dataset
need dataset "$name_pattern\.[A-Za-z0-9_]{1,1024}" fraud
job_name=${job_name:-fraud-pipeline} machine_type=${machine_type:-n2-standard-2}
max_workers=${max_workers:-10} delivery=${delivery:-exactly-once}
need job_name '[a-z]([-a-z0-9]{0,61}[a-z0-9])?' fraud-pipeline
need machine_type '[a-z][a-z0-9-]+' n2-standard-2
need max_workers '[1-9][0-9]{0,3}' 10
need delivery 'exactly-once|at-least-once' exactly-once
may service_account '[^@[:space:]]+@[^@[:space:]]+\.gserviceaccount\.com' fraud-worker@my-project.iam.gserviceaccount.com
may subnetwork "(https://www\.googleapis\.com/compute/v1/projects/[^/]+/)?regions/$region/subnetworks/[a-z0-9-]+" \
  "regions/$region/subnetworks/workers"
may timestamp_attribute '[^[:space:]]+' event_time
may rules_refresh_seconds '[1-9][0-9]{0,4}' 60
for name in rules lists; do
  value=${!name}
  [[ -z $value || -r $value || $value == gs://* ]] || fail "--$name '$value' can't be read; give a YAML file"
  [[ -z $value || -z $rules_refresh_seconds || $value == gs://* ]] ||
    fail "--$name '$value' is local, and workers can't read it again; copy it to gs://, or leave out --rules-refresh-seconds"
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=$root/.venv/bin/fraud-pipeline
[[ -x $program ]] || program=$(command -v fraud-pipeline) || fail "fraud-pipeline isn't installed; run \`make setup\`"

command=(
  "$program" run
  --input "pubsub:$subscription"
  --output "bigquery:$dataset"
  --runner DataflowRunner
  --streaming
  --project "$project"
  --region "$region"
  --job_name "$job_name"
  --temp_location "$temp_location"
  --staging_location "$staging_location"
  --setup_file "$root/setup.py"
  --requirements_file "$root/requirements/workers.lock"
  --enable_streaming_engine
  --autoscaling_algorithm THROUGHPUT_BASED
  --max_num_workers "$max_workers"
  --machine_type "$machine_type"
  --max_cache_memory_usage_mb 100
  --no_use_public_ips
  --labels app=fraud-pipeline
)
[[ $timestamp_attribute ]] && command+=(--timestamp-attribute "$timestamp_attribute")
[[ $rules ]] && command+=(--rules "$rules")
[[ $lists ]] && command+=(--lists "$lists")
[[ $rules_refresh_seconds ]] && command+=(--rules-refresh-seconds "$rules_refresh_seconds")
[[ $service_account ]] && command+=(--service_account_email "$service_account")
[[ $subnetwork ]] && command+=(--subnetwork "$subnetwork")
[[ $delivery == at-least-once ]] && command+=(--dataflow_service_options streaming_mode_at_least_once)
[[ $update ]] && command+=(--update)
command+=("$@")

if [[ $dry_run ]]; then
  printf '%q ' "${command[@]}" && echo
  command+=(--dry_run=true --requirements_cache=skip)
fi
exec "${command[@]}"
