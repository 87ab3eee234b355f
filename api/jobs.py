"""What the served document says of the endpoints of jobs, whose handlers are in `api.recognitions`."""

import msgspec
from msgspec import Raw

from api import answers, media_types, models, recognitions, uploads
from api.catalogue import PARAMETERS, Parameter
from api.customers import LABEL, LABEL_REFUSALS
from api.operations import BASE, USER_TOKEN, Answer, Body, Field, Operation
from api.problems import ANSWERS, JOB_NOT_FOUND, Refusal
from retention.errors import JobProcessing, KeyDisabled, NothingOffered
from retention.limits import COSTLY, Count
from retention.results import Alternative, Result, Results

_ID = "4bd734c0-e575-41f3-8e03-f932aa0468a0"
_CREATED, _UPDATED = "2026-08-17T19:15:17.926Z", "2026-08-17T19:15:21.305Z"
_RESULTS = Results(
    results=[
        Result(
            alternatives=[
                Alternative(
                    transcript="go forward ten meters ",
                    confidence=0.91,
                    timestamps=[
                        ("go", 0.46, 0.63),
                        ("forward", 0.63, 1.13),
                        ("ten", 1.13, 1.47),
                        ("meters", 1.47, 2.01),
                    ],
                )
            ]
        )
    ]
)
_OTHERWISE = {"warn": "answered with a warning", "refuse": "refused"}
_FEATURES = {
    "times": "gives word times",
    "confidences": "gives confidences",
    "alternatives": "gives alternatives",
    "punctuation": "punctuates",
    "english": "recognises English",
}


def _field(parameter: Parameter) -> Field:
    needs = sorted(parameter.needs or ())
    if parameter.needs is None:
        condition = f" No engine here honours it: {_OTHERWISE[parameter.otherwise]}, unless it asks for nothing."
    elif needs:
        able = " and ".join(_FEATURES[need] for need in needs)
        condition = f" Takes an engine that {able}; with another it is {_OTHERWISE[parameter.otherwise]}."
    else:
        condition = ""
    return Field(
        name=parameter.name,
        where="query",
        means=parameter.means + condition,
        schema=parameter.schema(),
        needs=tuple(needs),
    )


_OPT_OUT = Field(
    name="X-Watson-Learning-Opt-Out",
    where="header",
    means="Any value but `false` and `0`: the request is not kept to improve the service. By default none is.",
    schema={"type": "string"},
    example="true",
)
_JOB = Field(
    name="id",
    where="path",
    means="The id of the job.",
    schema={"type": "string", "format": "uuid"},
    required=True,
    example=_ID,
)
_AUDIO = Body(
    means="The audio, as it is: no form. At least 100 bytes; the most, 1 GiB unless the service is set up otherwise, is"
    " told by a 413. Raw audio needs its `rate` where the type does not imply it, and `audio/l16` may have `channels`"
    " (up to 16) and `endianness` (`big-endian` or `little-endian`). A container is recognised by its first bytes,"
    " whatever its type. It has to be when the type says nothing: without one, with `application/octet-stream`, and"
    " with what clients send who were told none, `application/json` and `application/x-www-form-urlencoded`."
    " `Content-Encoding: gzip` is taken.",
    content=dict.fromkeys(media_types.taken()),
)

CREATE = Operation(
    handler=recognitions.create,
    id="createJob",
    tag="Jobs",
    counts=Count("submits"),
    summary="Submit audio",
    means="Accepts a job: from now on it is kept, and ends completed or failed. Of a repeated parameter the first"
    " counts, but `keywords` and `events` are merged. Names that nobody knows are answered with a warning. Path and"
    " query together have at most 64 KiB.",
    fields=(*map(_field, PARAMETERS.values()), LABEL, _OPT_OUT),
    body=_AUDIO,
    answers=(
        Answer(
            status=201,
            means="Accepted.",
            example=answers.CreatedJob(
                id=_ID,
                status="waiting",
                created=_CREATED,
                url=f"{BASE}/v1/recognitions/{_ID}",
                warnings=("Unknown arguments: continuous.",),
            ),
        ),
    ),
    refusals=(
        Refusal(400, "'…' must be …"),
        Refusal(400, "'…' must not be longer than … characters"),
        Refusal(400, "'…' takes at most … values of at most … characters"),
        Refusal(400, "'…' does not know '…'"),
        Refusal(400, "'…' takes … or …, not both"),
        Refusal(400, "… is not a supported feature for model …"),
        Refusal(400, "callback url '…' is not registered"),
        models.UNKNOWN,
        ANSWERS[KeyDisabled],
        ANSWERS[NothingOffered],
        *LABEL_REFUSALS,
        *media_types.REFUSALS,
        *uploads.REFUSALS,
    ),
    leads_to=("checkJob", "deleteJob"),
    query="?timestamps=true",
    arguments='--data-binary @speech.wav -H "Content-Type: audio/wav"',
    python="speech.create_job(open('speech.wav', 'rb'), content_type='audio/wav', timestamps=True)",
)
LATEST = Operation(
    handler=recognitions.latest,
    id="checkJobs",
    tag="Jobs",
    counts=COSTLY,
    summary="List the newest jobs",
    means="At most 100, the newest first, in whatever state they are; without their results.",
    answers=(
        Answer(
            status=200,
            means="The jobs.",
            example=answers.ListedJobs(
                recognitions=[
                    answers.ListedJob(
                        id=_ID, created=_CREATED, updated=_UPDATED, status="processing", user_token=USER_TOKEN
                    )
                ]
            ),
        ),
    ),
    refusals=(ANSWERS[KeyDisabled],),
    python="speech.check_jobs()",
)
CHECK = Operation(
    handler=recognitions.check,
    id="checkJob",
    tag="Jobs",
    summary="Look at a job",
    means="With its results, as often as you like, until its time is over or it is deleted.",
    fields=(_JOB,),
    answers=(
        Answer(
            status=200,
            means="The job.",
            example=answers.CheckedJob(
                id=_ID,
                results=(Raw(msgspec.json.encode(_RESULTS)),),
                created=_CREATED,
                updated=_UPDATED,
                status="completed",
            ),
        ),
    ),
    refusals=(JOB_NOT_FOUND, ANSWERS[KeyDisabled]),
    python=f"speech.check_job({_ID!r})",
)
DELETE = Operation(
    handler=recognitions.delete,
    id="deleteJob",
    tag="Jobs",
    counts=COSTLY,
    summary="Delete a job",
    means="For good: its results and its audio, too. A job that is being processed cannot be deleted.",
    fields=(_JOB,),
    answers=(Answer(status=204, means="It is gone."),),
    refusals=(JOB_NOT_FOUND, ANSWERS[JobProcessing]),
    arguments="-X DELETE",
    python=f"speech.delete_job({_ID!r})",
)
