"""GET /shared/{token}: one work for everybody who has a link to it, as a plain page without any script.

The page shows that work's pictures, films, sounds and other files, and nothing else: no user, no console, no way to
another work.  They are fetched under the same token, by number, pictures first, so they end with it.  A link that has
ended says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from aiohttp import web

from supervisor.media.file_kinds import PLAYED
from supervisor.security.token_proof import Proof, is_revoked
from supervisor.security.tokens import BadToken, ExpiredToken, Share, read_share_token
from supervisor.store.feed import works
from supervisor.store.limits import revocations
from web.api import stored_files
from web.app.pages import SHARED_STYLE, hashed_names
from web.handling.context import Context, address_of, context_of
from web.http.client_address import household
from web.http.problems import Problem
from web.limits.rate_limits import count_stranger
from web.sharing.shares import SHARED_PATH, files_of

PICTURE_PATH = SHARED_PATH + "/{n}"
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; media-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex, nofollow",
    "Vary": "Accept-Language",
}

WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "lang": "en",
        "until": "This link works until {time} UTC.",
        "picture": "{what}, picture {n} of {all}",
        "save": "Save picture {n}",
        "film": "{what}, film {n} of {all}",
        "sound": "{what}, sound {n} of {all}",
        "save.file": "Save {name}",
        "gone": "This work was deleted",
        "gone.why": "Whoever made it has deleted it, and its pictures with it. Nothing of it is left here.",
        "expired": "This link has expired",
        "expired.why": "It was made for a limited time. Whoever sent it to you can make another.",
        "bad": "This link leads nowhere",
        "bad.why": "It is not complete, or it was taken back. Copy all of it, or ask for another.",
    },
    "zh": {
        "lang": "zh-CN",
        "until": "此链接有效至 {time}（UTC）。",
        "picture": "{what}，第 {n} 张，共 {all} 张",
        "save": "保存第 {n} 张",
        "film": "{what}，第 {n} 个视频，共 {all} 个",
        "sound": "{what}，第 {n} 个音频，共 {all} 个",
        "save.file": "保存 {name}",
        "gone": "作品已删除",
        "gone.why": "作者已删除该作品及其图片，这里不再保留任何内容。",
        "expired": "链接已过期",
        "expired.why": "该链接有时间限制。可以请分享者重新生成一个。",
        "bad": "链接无效",
        "bad.why": "链接不完整，或已被收回。请完整复制，或请对方重新分享。",
    },
}


async def show(request: web.Request) -> web.Response:
    """200 with the page; 404 for a wrong link, 410 for one that has ended or whose work was deleted."""
    await count_stranger(request)
    language = _language_of(request)
    words = WORDS[language]
    try:
        share, doc = await _shared(request)
    except ShareEnded as ended:
        page = _page(words, words[ended.why], f"<p>{escape(words[f'{ended.why}.why'])}</p>")
        return web.Response(status=ended.status, text=page, headers=_HEADERS)
    title = _title(context_of(request), doc["type"], language)
    return web.Response(
        text=_page(words, title, _pictures(words, title, share, doc, request.match_info["token"])),
        headers=_HEADERS,
    )


async def fetch_picture(request: web.Request) -> web.StreamResponse:
    """200 with a picture of the work, its preview (`?small`), or a file; 404, or 410 when the link has ended."""
    await count_stranger(request)
    try:
        _, doc = await _shared(request)
    except ShareEnded as ended:
        words = WORDS["en"]
        raise Problem(ended.status, f"{words[ended.why]}.", kind="link_ended") from None
    n = request.match_info["n"]
    made = [*doc["images"], *files_of(doc)]
    if not (n.isascii() and n.isdigit() and len(n) <= 4 and 1 <= int(n) <= len(made)):
        raise Problem(404, "This work has no such picture.", kind="not_found")
    image = made[int(n) - 1]
    shown = (image.get("thumbnail") or image) if "small" in request.query else image
    # Asked for again at each use: a work that is deleted ends its links.
    return await stored_files.send(
        request,
        shown["key"],
        name=f"{doc['type']}-{n}.{shown['key'].rpartition('.')[2]}",
        cache="private, no-cache",
        saves="save" in request.query,
    )


class ShareEnded(Exception):
    """The link shows nothing.  why: a name of WORDS."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


async def _shared(request: web.Request) -> tuple[Share, dict[str, Any]]:
    """Raises ShareEnded."""
    context = context_of(request)
    try:
        share = read_share_token(context.secret, request.match_info["token"], before=context.secret_before)
    except ExpiredToken:
        raise ShareEnded(410, "expired") from None
    except BadToken:
        raise ShareEnded(404, "bad") from None

    def read(tx: Any) -> tuple[works.Shared | None, bool]:
        found = works.shared(tx, share.work_id)
        if found is None:
            return None, False
        proofs = (Proof(found.user, share.issued_at),)
        return found, is_revoked(revocations.ask(tx, proofs).all(), proofs)

    found, is_taken_back = await context.read_turns.held_through(
        lambda: context.database.read_async(read), household(address_of(request))
    )
    if found is None or not (found.doc["images"] or files_of(found.doc)):
        raise ShareEnded(410, "gone")
    if is_taken_back:
        raise ShareEnded(404, "bad")
    return share, found.doc


def _title(context: Context, type_: str, language: str) -> str:
    declared = context.settings.tasks.get(type_)
    titles = declared.title if declared else {}
    return titles.get(language) or titles.get("en") or type_.replace("_", " ").capitalize()


def _pictures(words: Mapping[str, str], title: str, share: Share, doc: Mapping[str, Any], token: str) -> str:
    images, figures = doc["images"], []
    for n, image in enumerate(images, 1):
        address = PICTURE_PATH.format(token=token, n=n)
        what = escape(words["picture"].format(what=title, n=n, all=len(images)))
        figures.append(
            f'<figure><img src="{address}" width="{image["width"]}" height="{image["height"]}" alt="{what}"'
            f"{' loading=lazy' if n > 2 else ''}>"
            f'<figcaption><a href="{address}?save">{escape(words["save"].format(n=n))}</a></figcaption></figure>'
        )
    figures += _files(words, title, files_of(doc), token, before=len(images))
    until = datetime.fromtimestamp(share.expires_at, UTC).strftime("%Y-%m-%d %H:%M")
    return f'<p>{escape(words["until"].format(time=until))}</p><div class="shown">{"".join(figures)}</div>'


def _files(
    words: Mapping[str, str], title: str, files: Sequence[Mapping[str, Any]], token: str, *, before: int
) -> list[str]:
    """Films and sounds are played, with ranges; every other file is saved.  before: how many pictures there are."""
    kinds = [_kind_of(each["media_type"]) for each in files]
    figures = []
    for place, (file, kind) in enumerate(zip(files, kinds, strict=True)):
        address = PICTURE_PATH.format(token=token, n=before + place + 1)
        shown = ""
        if kind is not None:
            n = kinds[: place + 1].count(kind)
            label = escape(words[kind].format(what=title, n=n, all=kinds.count(kind)))
            tag = "video" if kind == "film" else "audio"
            shown = f'<{tag} controls preload="metadata" src="{address}" aria-label="{label}"></{tag}>'
        save = escape(words["save.file"].format(name=file["name"]))
        figures.append(
            f'<figure>{shown}<figcaption><a href="{address}?save">{save}</a></figcaption></figure>'
        )
    return figures


def _kind_of(media_type: str) -> str | None:
    """A name of WORDS for what a browser plays; None for everything else."""
    if media_type not in PLAYED:
        return None
    return "film" if media_type.startswith("video/") else "sound"


def _page(words: Mapping[str, str], title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="{words["lang"]}">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">
  <meta name="color-scheme" content="light dark">
  <meta name="robots" content="noindex, nofollow">
  <title>{escape(title)}</title>
  <link rel="icon" href="/static/{hashed_names()["icon.svg"]}" type="image/svg+xml">
  <link rel="stylesheet" href="/static/{hashed_names()[SHARED_STYLE]}">
</head>
<body><main><h1>{escape(title)}</h1>{body}</main></body>
</html>
"""


def _language_of(request: web.Request) -> str:
    """The first language of `Accept-Language` that there is; English otherwise."""
    asked = ",".join(request.headers.getall("Accept-Language", [])).lower().split(",")
    return next((each.strip()[:2] for each in asked if each.strip()[:2] in WORDS), "en")
