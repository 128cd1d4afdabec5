"""Maps of real and synthetic faces in the plane, by a judge's features."""

from mien.audit import features
from mien.audit.specs import JudgeSpec
from mien.errors import DataError
from mien.faces import Faces
from mien.pages.planes import FaceMap, choose_points, place_faces
from mien.runs.progress import say
from mien.runs.store import Store
from mien.study.results import StudyResults


def map_faces(study: StudyResults, store: Store, device: str = "auto") -> FaceMap | None:
    """Return the map of the study's first finished database, or None if there is none to draw.

    The judge is a small classifier that learns from the real training faces of that fold only; it
    is trained once and kept in the store. The axes are those on which these faces vary most.
    """
    finished = [record for record in study.plan.databases if store.is_done(record.database)]
    if not finished:
        return None
    database = finished[0]
    train_run = store.run(database.split or study.spec["faces"])

    # The three groups; real faces that the judge has not seen are held out
    train, synthetic = Faces.load(train_run.path), Faces.load(store.run(database.database).path)
    unseen = ~study.faces.index["key"].isin(set(train.index["key"])).to_numpy()
    groups = {"real training": train}
    if unseen.any():
        groups["real held-out"] = study.faces.select(unseen)
    groups["synthetic"] = synthetic
    samples = {name: faces.select(choose_points(len(faces))) for name, faces in groups.items()}

    # Their features, and the two axes on which the training faces vary most
    if not store.is_done(JudgeSpec(faces=train_run.name).name):
        say(
            f"the map of faces of {study.title} needs a small classifier, the judge, which learns "
            "from the real training faces now; --no-map leaves the map out"
        )
    try:
        space = features.open_space("judge", train_run, store, device=device)
    except DataError as error:
        say(f"no map of {study.title}: {error}")
        return None
    vectors = {name: space.extract(faces.images) for name, faces in samples.items()}
    centre, axes = features.find_principal_axes(vectors["real training"], 2)
    if axes.shape[1] < 2:
        return None
    return place_faces(samples, vectors, centre, axes, database.fold)
