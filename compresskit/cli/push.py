"""`compresskit push`: a checkpoint goes to the Hugging Face Hub, with a model card."""

from __future__ import annotations

from compresskit.cli.flags import with_flags
from compresskit.publish.options import PushOptions


@with_flags()
def push(options: PushOptions) -> None:
    """Upload a checkpoint to the Hugging Face Hub, with a model card: figures, lineage, licence, how to open it."""
    from compresskit import console
    from compresskit.checkpoint.outputs import check_file
    from compresskit.checkpoint.store import write_text
    from compresskit.evaluate.units import size
    from compresskit.models.kinds import places
    from compresskit.publish.files import bytes_of
    from compresskit.publish.push import packed
    from compresskit.publish.push import push as send
    from compresskit.text import counted

    parcel = packed(options)
    if options.output is not None:
        check_file(options.output, places(parcel.subject.source), flag="--output")
    what = f"{counted(len(parcel.files), 'file')} ({size(bytes_of(parcel.files))}) and the card"
    if parcel.subject.origin.license is None:
        console.warn("nothing tells the licence, which the card leaves open; give it with --license")
    if not options.dry_run:
        console.info(f"sending {what} to {options.repo}")
        console.info(f"{send(options, parcel)} is there; compresskit eval {options.repo} measures it")
    elif options.output is None:
        console.out(parcel.card.rstrip("\n"))
    else:
        write_text(options.output, parcel.card)
        console.info(f"{options.output} holds the card; {what} would go to {options.repo}")
