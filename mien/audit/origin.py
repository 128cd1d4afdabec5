"""Origin: the generator behind a database, and the faces that it learnt from."""

from mien.errors import UsageError
from mien.faces import Faces
from mien.prepare.splits import find_test_side
from mien.runs.store import Run, Store


def find_generator_run(synthetic: Run, store: Store) -> str:
    """Return the run of the generator that drew all images of a database.

    Each image names the run that drew it, so the generator is found behind filtered and joined
    databases too. The name is empty if there are several generators or an unknown one, or if a run
    on the way is not in the store.
    """
    names = set()
    for maker in set(Faces.load(synthetic.path).index["source"]):
        run = Run(maker, store.root / "runs" / maker) if store.is_done(maker) else synthetic
        drew = run.name == maker and run.stage == "generate"
        names.add(str(run.spec.get("generator", "")) if drew else "")
    name = names.pop() if len(names) == 1 else ""
    return name if name and store.is_done(name) else ""


def find_real_sides(database: Run, store: Store) -> tuple[str, str]:
    """Return the runs of the training faces and of the held-out people of a generated database.

    The training faces are those of its generator. Held out is the other side of their split; it is
    empty if they are no training side, or if that side is not in the store. Raises UsageError if
    the training faces are not known, because no run of mien generated the database.
    """
    generator = find_generator_run(database, store)
    if not generator:
        raise UsageError(
            f"it is not known which faces the generator of {database.name} was trained on; name "
            "them with --train"
        )
    train = store.run(str(store.run(generator).spec["faces"]))
    return train.name, find_test_side(train, store)
