"""A job on Dataflow: what Beam lets pass, hangs on or loses in silence is refused first; then it is submitted.

`run_dataflow.sh` gives the options of production; `docs/dataflow.md` has the reasons.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    TestOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.portability import stager

from fraud_pipeline.errors import UsageError
from fraud_pipeline.sinks import Sink
from fraud_pipeline.sinks.base import StagedSink
from transforms.reload import RuleSource

LOOKUP_TIMEOUT_SECONDS = 30.0


def is_dataflow(options: PipelineOptions) -> bool:
    """Whether the options ask for Dataflow."""
    return bool(options.view_as(StandardOptions).runner == "DataflowRunner")


def check(
    options: PipelineOptions, sink: Sink, inputs: Iterable[str] = (), rules_source: RuleSource | None = None
) -> None:
    """Refuses what could not work: first what can be told without a network, then what the service knows.

    Args:
      options: a Dataflow job's.
      sink: where its results go.
      inputs: paths of the files that it reads.
      rules_source: where its workers read rules again, if they do.

    Raises:
      UsageError: a path isn't one that workers can reach; an option is missing; a job of the same name runs already,
        or with `--update` none does.
    """
    cloud, setup = options.view_as(GoogleCloudOptions), options.view_as(SetupOptions)
    if isinstance(sink, StagedSink):
        raise UsageError(
            f"--output {sink.output.name!r} is local, and workers have no disk in common; "
            "give bigquery:project.dataset for Dataflow"
        )
    for path in inputs:
        if not path.startswith("gs://"):
            raise UsageError(f"--input {path!r} is local, and workers can't read it; copy it to gs:// for Dataflow")
    for option, path in rules_source.paths if rules_source is not None else ():
        if not path.startswith("gs://"):
            raise UsageError(
                f"{option} {path!r} is local, and workers can't read it again; copy it to gs://, or leave out "
                "--rules-refresh-seconds"
            )
    # Without one, Beam looks for a bucket of its own over the network, without a time limit.
    for name in () if _is_local(cloud) else ("temp_location", "staging_location"):
        value = getattr(cloud, name)
        if name == "temp_location" and not value:
            raise UsageError("--temp_location is missing; give gs://bucket/path for Dataflow")
        errors = value and PipelineOptionsValidator(options, None).validate_gcs_path(cloud, name)
        if errors:
            raise UsageError(f"--{name} {value!r} is no path in Cloud Storage; give gs://bucket/path")
    if not cloud.region:
        raise UsageError("--region is missing; give one such as europe-west1")
    if not setup.setup_file and not options.view_as(WorkerOptions).sdk_container_image:
        raise UsageError("--setup_file is missing, so workers would lack this package; give --setup_file ./setup.py")
    if cloud.update and not cloud.job_name:
        raise UsageError("--update replaces a job of the same name; give --job_name")
    if setup.requirements_file and setup.requirements_cache != "skip" and not importlib.util.find_spec("pip"):
        raise UsageError("--requirements_file needs pip here to fetch what workers install; install pip")
    if not _is_sent(options):
        return
    _check_running(options)
    if not _is_local(cloud):
        sink.check()


def submit(pipeline: beam.Pipeline) -> int:
    """Submits a streaming job and leaves it running: it ends by a drain, not with this process.

    Args:
      pipeline: the whole job.

    Returns:
      0, or 1 where the service refused the job.
    """
    from google.api_core.exceptions import GoogleAPICallError

    # It warns with a traceback of each wheel that isn't there for the newest platform, and then takes the next.
    logging.getLogger(stager.__name__).setLevel(logging.ERROR)
    options = pipeline.options
    cloud = options.view_as(GoogleCloudOptions)
    if not _is_sent(options):
        # With it Beam would look the running job up even now.
        cloud.update = False
    try:
        result: Any = pipeline.run()
    except GoogleAPICallError as error:
        print(f"Dataflow refused the job: {error.message}", file=sys.stderr)
        return 1
    if options.view_as(TestOptions).dry_run:
        print("dry run: the options are valid and the package is built; nothing was submitted", file=sys.stderr)
    elif cloud.template_location:
        print(f"template written: {cloud.template_location}", file=sys.stderr)
    else:
        _show(result.job_id(), cloud)
    return 0


def running_job_id(options: PipelineOptions) -> str | None:
    """The id of the running or draining job with the options' name, project and region, if there is one.

    Raises:
      google.api_core.exceptions.GoogleAPICallError: the service refused, or did not answer in time.
      UsageError: there are no credentials.
    """
    import google.auth
    from apache_beam.internal.gcp.auth import get_service_credentials
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import dataflow_v1beta3 as dataflow

    cloud = options.view_as(GoogleCloudOptions)
    credentials: Any = AnonymousCredentials()
    if not cloud.no_auth:
        try:
            # Beam would look several times, for half a minute, and then go on without.
            google.auth.default(scopes=cloud.gcp_oauth_scopes)
        except DefaultCredentialsError as error:
            raise UsageError(f"no Google credentials: {error}; run `gcloud auth application-default login`") from error
        credentials = get_service_credentials(options)
    client = dataflow.JobsV1Beta3Client(
        credentials=credentials,
        client_options=ClientOptions(api_endpoint=cloud.dataflow_endpoint.rstrip("/")),
        transport="rest",
    )
    request = dataflow.ListJobsRequest(
        project_id=cloud.project,
        location=cloud.region,
        name=cloud.job_name,
        filter=dataflow.ListJobsRequest.Filter.ACTIVE,
    )
    states = (dataflow.JobState.JOB_STATE_RUNNING, dataflow.JobState.JOB_STATE_DRAINING)
    jobs = client.list_jobs(request, timeout=LOOKUP_TIMEOUT_SECONDS)
    return next((job.id for job in jobs if job.name == cloud.job_name and job.current_state in states), None)


def _check_running(options: PipelineOptions) -> None:
    from google.api_core.exceptions import GoogleAPICallError

    cloud = options.view_as(GoogleCloudOptions)
    if not cloud.job_name:
        return
    try:
        job_id = running_job_id(options)
    except GoogleAPICallError as error:
        raise UsageError(
            f"Dataflow doesn't tell which jobs run: {error.message}; check --project, --region and your permissions"
        ) from error
    where = f"in {cloud.project}, {cloud.region}"
    # Beam itself would page through the jobs forever.
    if cloud.update and job_id is None:
        raise UsageError(f"--update: no job named {cloud.job_name!r} runs {where}; submit it without --update")
    if job_id is not None and not cloud.update:
        raise UsageError(
            f"a job named {cloud.job_name!r} runs already {where} ({job_id}); "
            "replace it with --update, drain it first, or give another --job_name"
        )


def _is_sent(options: PipelineOptions) -> bool:
    return not (options.view_as(TestOptions).dry_run or options.view_as(GoogleCloudOptions).template_location)


def _is_local(cloud: GoogleCloudOptions) -> bool:
    return urlsplit(cloud.dataflow_endpoint).netloc.startswith("localhost")


def _show(job_id: str, cloud: GoogleCloudOptions) -> None:
    job = f"{job_id} --project {cloud.project} --region {cloud.region}"
    print(
        f"submitted {cloud.job_name}: {job_id}\n"
        f"  https://console.cloud.google.com/dataflow/jobs/{cloud.region}/{job_id}?project={cloud.project}\n"
        f"  end it, nothing lost: gcloud dataflow jobs drain {job}",
        file=sys.stderr,
    )
