"""Table of the commands: name, module, one line of help."""

from __future__ import annotations

from typing import Final, NamedTuple


class Command(NamedTuple):
    """One command: its module below `isocenter.services.cli`, and one line of help."""

    name: str
    module: str
    help: str


COMMANDS: Final = (
    Command("serve", "server.serve", "run the archive"),
    Command("pacsserver", "server.pacs_server", "serve, by the options of other PACS servers"),
    Command("certs", "security.certs", "issue, sign, list, renew and revoke certificates"),
    Command(
        "ae", "security.ae", "access policy: who may associate, and for what; who was rejected"
    ),
    Command("user", "security.user", "users of the access policy, with passcode or token"),
    Command("share", "security.share", "links to one study: add, list, revoke"),
    Command("token", "security.token", "API tokens for programs: add, list, revoke"),
    Command("viewer", "server.viewer", "install the viewer OHIF for the browser"),
    Command("reload", "server.reload", "let the running server read its configuration again"),
    Command("config", "server.config", "show, explain and change the settings"),
    Command("conformance", "server.conformance", "print the conformance statement (PS3.2)"),
    Command("db", "archive.db", "statistics of the archive; verify it; rebuild its index"),
    Command("dbbrowser", "archive.dbbrowser", "patients, studies, series, instances of an archive"),
    Command(
        "backup",
        "archive.backup",
        "back up the whole archive while the server runs; verify backups",
    ),
    Command("restore", "archive.restore", "restore an archive from a backup"),
    Command(
        "migrate",
        "archive.migrate",
        "copy a whole archive to another database and object store",
    ),
    Command("audit", "security.audit", "verify, show, follow and export the audit trail"),
    Command("import", "archive.import_files", "import a folder of DICOM files into the archive"),
    Command(
        "export", "archive.export", "write studies, series or instances to a folder or a ZIP file"
    ),
    Command(
        "deidentification",
        "archive.deidentification",
        "projects of de-identification, and their mappings of UIDs",
    ),
    Command("delete", "archive.delete", "delete studies, series or instances from the archive"),
    Command("correct", "archive.correct", "correct attributes of a patient, a study or a series"),
    Command("merge", "archive.merge", "merge two patients, or two studies"),
    Command("move", "archive.move", "move a study to another patient, or series to another study"),
    Command("split", "archive.split", "make a study of its own of series of a study"),
    Command("link", "archive.link", "patients who are one person: add, remove, list"),
    Command("corrections", "archive.corrections", "corrections: list, undo, retry, resume"),
    Command("hold", "archive.hold", "protect studies from deletion: add, remove, list"),
    Command("lock", "archive.lock", "studies that somebody changes: list, release"),
    Command("tiers", "archive.tiers", "storage tiers: what is where; move and pin studies"),
    Command("retention", "archive.retention", "show what rules of retention would delete"),
    Command(
        "reconciliation",
        "archive.reconciliation",
        "what other systems said of patients (HL7 ADT), and what came of it",
    ),
    Command("trash", "archive.trash", "deleted objects: list, restore, purge"),
    Command(
        "reject",
        "archive.reject",
        "rejection notes (IHE IOCM): reject objects, list notes, take them back",
    ),
    Command(
        "quarantine",
        "archive.quarantine",
        "withhold objects until they are released: add, list, show, release, delete",
    ),
    Command("echoscu", "scu.echoscu", "verify a peer (C-ECHO)"),
    Command("secureechoscu", "scu.secure_echo_scu", "verify a peer over TLS (C-ECHO)"),
    Command("storescu", "scu.storescu", "send files and folders to a peer (C-STORE)"),
    Command("findscu", "scu.findscu", "query a peer (C-FIND)"),
    Command("queryscu", "scu.query_scu", "query a peer, and print a table (C-FIND)"),
    Command("retrievescu", "scu.retrieve_scu", "fetch objects from a peer (C-GET, C-MOVE)"),
    Command("movescu", "scu.movescu", "have a peer send objects to a destination (C-MOVE)"),
    Command("getscu", "scu.getscu", "fetch objects from a peer (C-GET)"),
    Command("dicomweb", "web.dicomweb", "search, retrieve and store at a DICOMweb service"),
    Command("worklistscu", "scu.worklist_scu", "query the modality worklist of a peer"),
    Command("mppsscu", "scu.mpps_scu", "report performed procedure steps to a peer (MPPS)"),
    Command("upsscu", "scu.ups_scu", "create, perform and cancel workitems of a peer (UPS)"),
    Command("printscu", "scu.print_scu", "print images on a DICOM printer"),
    Command("commitscu", "scu.commit_scu", "request storage commitment from a peer"),
    Command(
        "hl7send", "scu.hl7_send", "send HL7 messages over MLLP, and show their acknowledgements"
    ),
    Command(
        "worklist", "archive.worklist", "list, add, import, update and remove worklist entries"
    ),
    Command("echoscp", "server.echo_scp", "answer C-ECHO, and nothing else"),
    Command("secureechoscp", "server.secure_echo_scp", "answer C-ECHO over TLS, and nothing else"),
    Command("storescp", "server.store_scp", "take objects (C-STORE), and nothing else"),
    Command("qrscp", "server.qr_scp", "serve a folder of DICOM files (C-FIND, C-MOVE, C-GET)"),
    Command("worklistscp", "server.worklist_scp", "serve a folder of files as a modality worklist"),
    Command(
        "mppsscp", "server.mpps_scp", "receive performed procedure steps (MPPS), and nothing else"
    ),
    Command("upsscp", "server.ups_scp", "keep unified procedure steps (UPS), and nothing else"),
    Command("printscp", "server.print_scp", "be a DICOM printer that makes files"),
    Command("mpps", "archive.mpps", "list and show the archive's performed procedure steps"),
    Command(
        "commitments", "archive.commitments", "list and show the archive's storage commitments"
    ),
    Command("events", "archive.events", "events: list, deliver again; open and complete studies"),
    Command("node", "archive.node", "remote nodes: add, list, test, limit, hold, remove"),
    Command("nodes", "archive.nodes", "servers of this archive, if several: list, drain, remove"),
    Command("retrieve", "archive.retrieve", "retrieve studies from a remote node into the archive"),
    Command("publish", "archive.publish", "publish manifests of studies to a repository"),
    Command("shared", "archive.shared", "list and fetch studies that others have shared"),
    Command("send", "archive.send", "send studies of the archive to a remote node"),
    Command("prefetch", "archive.prefetch", "earlier studies of a patient, from remote nodes"),
    Command("jobs", "archive.jobs", "what is retrieved and sent: list, show, follow, steer"),
    Command("task", "archive.task", "what the archive does by itself: add, list, run, steer"),
    Command("sync", "archive.sync", "conflicts with remote nodes: list, resolve"),
    Command("queue", "archive.queue", "forwarding queue: list, retry, purge"),
    Command("compress", "archive.compress", "compressed objects: status, list, retry, add"),
    Command("rules", "archive.rules", "rules: list, add, change, order, test, explain"),
    Command("dcmdump", "files.dcmdump", "show what is in DICOM files, element by element"),
    Command("dcminfo", "files.dcminfo", "show what DICOM files and folders are"),
    Command(
        "dcmvalidate", "files.dcmvalidate", "hold DICOM files against the standard (PS3.3 IODs)"
    ),
    Command("dcmmodify", "files.dcmmodify", "insert, modify and erase attributes of DICOM files"),
    Command("dcmsign", "files.dcmsign", "sign DICOM files; verify and remove their signatures"),
    Command("dcmanonymize", "files.dcmanonymize", "de-identify DICOM files (PS3.15 Annex E)"),
    Command("dcmconv", "files.dcmconv", "convert DICOM files to other transfer syntaxes"),
    Command("dcmtojson", "files.dcmtojson", "write DICOM files as DICOM JSON"),
    Command("jsontodcm", "files.jsontodcm", "write DICOM files from DICOM JSON"),
    Command("dcmtoxml", "files.dcmtoxml", "write DICOM files as XML (Native DICOM Model)"),
    Command("xmltodcm", "files.xmltodcm", "write DICOM files from XML (Native DICOM Model)"),
    Command("dcmdir", "files.dcmdir", "make, show, verify and change DICOMDIR files"),
    Command("imgtodcm", "files.imgtodcm", "make DICOM files of pictures, documents and video"),
    Command("dcmextract", "files.dcmextract", "take frames, documents and waveforms out of files"),
    Command("dissect", "diagnose.dissect", "analyse DICOM associations in a network capture"),
    Command("health", "server.health", "health of the server on this machine"),
    Command("doctor", "diagnose.doctor", "find problems of this installation, or of a peer"),
)
