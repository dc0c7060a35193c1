"""What a page can do, the API can do with the same permission."""

from __future__ import annotations

from typing import Final

from services.web.signed_in import Site

#: What a form of a page does → the operation of the API that does the same.
TWINS: Final = {
    "/associations/{association}/abort": "AbortAssociation",
    "/certificates": "IssueCertificate",
    "/certificates/revoke": "RevokeCertificate",
    "/certificates/sign": "IssueCertificate",
    "/cluster/{node}/drain": "DrainClusterNode",
    "/cluster/{node}/remove": "RemoveClusterNode",
    "/conflicts/resolve": "ResolveConflict",
    "/corrections/{number}/undo": "UndoCorrection",
    "/delete": "DeleteStudy",
    "/devices": "AdmitDevice",
    "/devices/turn-away": "TurnDeviceAway",
    "/elsewhere": "ListSharedStudies",
    "/elsewhere/fetch": "FetchSharedStudy",
    "/elsewhere/manifest": "GetSharedStudy",
    "/jobs/compress": "CompressStudies",
    "/jobs/import": "ImportFiles",
    "/jobs/query": "QueryByJob",
    "/jobs/{job}/cancel": "CancelJob",
    "/jobs/{job}/delete": "DeleteJob",
    "/jobs/{job}/pause": "PauseJob",
    "/jobs/{job}/resume": "ResumeJob",
    "/jobs/{job}/retry": "RetryJob",
    "/locks/release": "ReleaseStudyLock",
    "/nodes": "AddRemoteNode",
    "/nodes/{node}/hold": "ChangeNodeLimits",
    "/nodes/{node}/limits": "ChangeNodeLimits",
    "/nodes/{node}/remove": "RemoveRemoteNode",
    "/nodes/{node}/retrieve": "RetrieveStudies",
    "/nodes/{node}/switch": "ChangeRemoteNode",
    "/nodes/{node}/verify": "VerifyRemoteNode",
    "/patients/link": "LinkPatients",
    "/patients/merge": "OrderCorrection",
    "/patients/tell-apart": "TellPatientsApart",
    "/patients/unlink": "UnlinkPatients",
    "/prints/{job}/cancel": "CancelPrintJob",
    "/prints/{job}/retry": "RetryPrintJob",
    "/quarantine/{quarantine}/delete": "DeleteQuarantine",
    "/quarantine/{quarantine}/release": "ReleaseQuarantine",
    "/queue/retry": "RetryForwards",
    "/rejections/{note}/delete": "DeleteRejected",
    "/rejections/{note}/revoke": "RevokeRejectionNote",
    "/retention/release": "ReleaseStudy",
    "/routing/switch": "DisableRules",
    "/results/{instance}/assess": "AssessAiResult",
    "/studies/{study}/analyse": "BeginAnalysis",
    "/rules": "AddRule",
    "/rules/{rule}": "ChangeRule",
    "/rules/{rule}/move": "ReorderRules",
    "/rules/{rule}/remove": "RemoveRule",
    "/rules/{rule}/switch": "ChangeRule",
    "/sessions/{session}/end": "EndSession",
    "/settings/{key}": "ChangeSetting",
    "/settings/{key}/reset": "ResetSetting",
    "/shares/revoke": "RevokeLink",
    "/sign-in": "SignIn",
    "/sign-out": "SignOut",
    "/studies/{study}/correct": "OrderCorrection",
    "/studies/{study}/delete": "DeleteStudy",
    "/studies/{study}/hold": "HoldStudy",
    "/studies/{study}/key-images": "ExportKeyImages",
    "/studies/{study}/print": "PrintStudy",
    "/studies/{study}/quarantine": "QuarantineStudy",
    "/studies/{study}/reject": "RejectStudy",
    "/studies/{study}/publish": "PublishStudy",
    "/send": "SendStudies",
    "/studies/{study}/share": "AddLink",
    "/tasks": "AddTask",
    "/tasks/{task}/cancel": "CancelTask",
    "/tasks/{task}/pause": "PauseTask",
    "/tasks/{task}/remove": "RemoveTask",
    "/tasks/{task}/resume": "ResumeTask",
    "/tasks/{task}/run": "RunTask",
    "/tasks/{task}/try": "RunTask",
    "/tokens": "AddToken",
    "/tokens/{token}/revoke": "RevokeToken",
    "/trash/{deletion}/restore": "RestoreDeletion",
    "/users": "AddUser",
    "/users/{user}/active": "ChangeUser",
    "/users/{user}/codes": "AskForCodes",
    "/users/{user}/passcode": "ChangeUser",
    "/users/{user}/remove": "RemoveUser",
    "/users/{user}/roles": "ChangeUser",
    "/worklist": "ChangeWorklistEntry",
    "/worklist/new": "AddWorklistEntry",
}
#: Of somebody who has a link and no account: a program with a token asks DICOMweb.
OF_PEOPLE_ONLY: Final = frozenset({"/share/{token}"})


async def test_whatever_a_page_does_the_api_does_with_the_same_permission(site: Site) -> None:
    operations = {route.name: route for route in site.rest}
    actions = {
        route.path: route
        for route in site.routes
        if route.method == "POST" and route.path not in OF_PEOPLE_ONLY
    }
    missing = actions.keys() - TWINS.keys()
    assert not missing, "give the API an operation for it, and name that in TWINS"
    assert not TWINS.keys() - actions.keys(), "no page does that any more"
    for path, name in TWINS.items():
        assert operations[name].needs == actions[path].needs, f"{path} and {name}"
