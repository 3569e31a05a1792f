/** The console's words in two languages: the browser's own at first, then as the reader chose. */

const KEY = "darkroom.language";

const ENGLISH = {
  "skip": "Skip to the prints",
  "link.connecting": "Connecting", "link.live": "Live", "link.polling": "Live, by asking",
  "link.lost": "Reconnecting", "link.offline": "Offline",
  "credits": "{n|credit|credits}", "credits.title": "Credits", "credits.left": "left",
  "credits.grant": "Granted", "credits.debit": "Paid", "credits.refund": "Given back",
  "language.other": "中文", "language.switch": "切换到中文",
  "order": "New order", "type": "What to make",
  "drop.how": "Drop, paste or choose", "picture.n": "Picture {n}",
  "remove.slot": "Remove: {what}", "chosen.slot": "{what}: {name}", "prompt": "In words",
  "scene": "Scene", "scene.studio": "Studio", "scene.sunset": "Sunset", "scene.night": "Night",
  "count": "Pictures", "count.fewer": "Fewer pictures", "count.more": "More pictures",
  "submit.sending": "Handing in…", "submit.person": "Choose a photo first", "submit.garment": "Choose a garment first",
  "submit.missing": "Choose first: {what}", "no.json": "{name} is no JSON.",
  "submit.one": "Make the picture", "submit.many": "Make {n} pictures", "submitted": "Handed in.",
  "no.picture": "{name} is not a picture.", "again.in": "{what} Try again in {time}.",
  "prints": "Prints", "prints.open": "{n} developing", "prints.all": "{n} on the line", "prints.older": "Show older prints",
  "empty": "Nothing on the line yet.", "empty.hint": "Drop a photo into the order, and watch it develop here.",
  "status.pending": "In line", "status.processing": "Developing", "status.ai_processing": "At the service",
  "status.completed": "Done", "status.failed": "Failed", "status.cancelled": "Cancelled",
  "head.next": "Next", "head.ahead": "{n} ahead", "head.failed": "No print",
  "left.now": "Any moment now", "left": "About {time} left",
  "pictures.none": "No pictures", "pictures.one": "1 picture", "pictures.many": "{n} pictures",
  "input.videos": "Video", "input.audio": "Sound", "input.files": "Files", "submit.videos": "Choose a video", "submit.audio": "Choose a sound", "submit.files": "Choose a file",
  "made.one": "1 file", "made.many": "{n} files", "made.data": "Data", "made.data.save": "Save the data",
  "open": "Open", "cancel": "Cancel", "retry": "Try again", "delete": "Delete", "delete.sure": "Really delete?",
  "act.on": "{act}: {what}", "look": "Look at picture {n} of {all}", "viewed": "{what}, picture {n} of {all}",
  "place": "{n} of {all} · {width} × {height}",
  "viewer": "Picture", "viewer.before": "Picture before", "viewer.next": "Next picture", "save": "Save", "close": "Close",
  "seconds": "{n} s", "minutes": "{n} min", "now": "just now", "minutes.ago": "{n} min ago", "hours.ago": "{n} h ago",
  "who": "Who are you?", "who.hint": "This server asks for a token. `darkroom token USER` prints one. It stays in this tab and is forgotten with it.",
  "new.browser": "This browser is new here", "new.browser.hint": "Open the link that `darkroom up` has printed below its address, or the one that `darkroom link` prints: it lets this browser in, with nothing to type. With a token you can come in here too.",
  "token": "Token", "come.in": "Come in", "signed.in": "Signed in", "leave": "Leave: forget the token",
  "step.waiting": "waiting", "step.running": "in work", "step.done": "done", "step.resumed": "done before", "step.failed": "failed", "step.cancelled": "cancelled",
  "failed": "It failed.", "api": "HTTP API", "metrics": "Metrics",
  "hours": "{n} h", "days": "{n|day|days}", "again": "Order again", "again.ready": "The form holds that order. Change what you like, then hand it in.",
  "again.gone": "Some of its files are no longer kept: choose them again.", "again.no.type": "This kind of task can no longer be ordered here.",
  "kept.other": "{what}: {name}", "kept.remove": "Remove: {name}",
  "waits.offline": "You are offline. An order that you hand in waits on this page and goes out once, when the connection is back.",
  "waits.sending": "You are offline, so your order waits here. It goes out once, when the connection is back: keep this page open.",
  "waits.lost": "Darkroom can't be reached just now, so your order is tried again. However often it is sent, it is one order.",
  "submit.stop": "Stop waiting", "submit.stopped": "The order was not sent.",
  "back.one": "1 credit came back", "back.many": "{n} credits came back",
  "head.again": "Trying again", "attempt": "Attempt {n} of {all}",
  "notify.on": "Tell me when prints are done", "notify.off": "Stop telling me when prints are done", "notify.is.on": "This browser will tell you when prints are done.",
  "notify.is.off": "This browser will not tell you.", "notify.denied": "Notifications are blocked for this page in the browser's settings.",
  "notify.done": "{what} is done", "notify.failed": "{what} failed",
  "search": "Search", "search.type": "Kind", "search.every": "All kinds", "search.from": "From", "search.to": "To", "search.clear": "Show all",
  "search.nothing": "No prints match.", "found.some": "{n} found so far", "found.all": "{n} found",
  "save.all": "Download all", "save.found": "Download these", "save.begun": "{n|work is|works are} being saved in one file.", "save.none": "There is no finished work to save.",
  "share": "Share", "share.title": "Share these pictures", "share.how.long": "How long",
  "share.hint": "Everybody with the link sees the pictures of this work and nothing else. The link ends after the time that you choose, or when you delete the work.",
  "share.3600": "1 hour", "share.86400": "1 day", "share.604800": "1 week", "share.2592000": "30 days",
  "share.make": "Make a link", "share.link": "Link", "share.copy": "Copy", "share.copied": "Copied.", "share.send": "Send…", "share.until": "Good until {time}.",
  "compare.open": "Compare", "compare": "Slide between before and after", "compare.before": "The photo before",
};

const CHINESE = {
  "skip": "跳到照片",
  "link.connecting": "连接中", "link.live": "实时", "link.polling": "实时（轮询）",
  "link.lost": "重新连接", "link.offline": "离线",
  "credits": "{n} 点", "credits.title": "点数", "credits.left": "点可用",
  "credits.grant": "赠送", "credits.debit": "支付", "credits.refund": "退还",
  "language.other": "EN", "language.switch": "Switch to English",
  "order": "新任务", "type": "制作内容",
  "drop.how": "拖放、粘贴或选择", "picture.n": "图片 {n}",
  "remove.slot": "移除：{what}", "chosen.slot": "{what}：{name}", "prompt": "文字描述",
  "scene": "场景", "scene.studio": "影棚", "scene.sunset": "日落", "scene.night": "夜晚",
  "count": "张数", "count.fewer": "减少一张", "count.more": "增加一张",
  "submit.sending": "提交中…", "submit.person": "请先选择照片", "submit.garment": "请先选择服装",
  "submit.missing": "请先选择：{what}", "no.json": "{name} 不是 JSON。",
  "submit.one": "开始制作", "submit.many": "制作 {n} 张", "submitted": "已提交。",
  "no.picture": "{name} 不是图片。", "again.in": "{what}请在 {time}后重试。",
  "prints": "照片", "prints.open": "{n} 个制作中", "prints.all": "共 {n} 个", "prints.older": "显示更早的照片",
  "empty": "还没有照片。", "empty.hint": "放入一张照片，制作过程会显示在这里。",
  "status.pending": "排队中", "status.processing": "制作中", "status.ai_processing": "AI 处理中",
  "status.completed": "已完成", "status.failed": "失败", "status.cancelled": "已取消",
  "head.next": "下一个", "head.ahead": "前面还有 {n} 个", "head.failed": "未成片",
  "left.now": "马上开始", "left": "约剩 {time}",
  "pictures.none": "没有图片", "pictures.one": "1 张图片", "pictures.many": "{n} 张图片",
  "input.videos": "视频", "input.audio": "声音", "input.files": "文件", "submit.videos": "请选择视频", "submit.audio": "请选择声音", "submit.files": "请选择文件",
  "made.one": "1 个文件", "made.many": "{n} 个文件", "made.data": "数据", "made.data.save": "保存数据",
  "open": "查看", "cancel": "取消", "retry": "重试", "delete": "删除", "delete.sure": "确定删除？",
  "act.on": "{act}：{what}", "look": "查看第 {n} 张，共 {all} 张", "viewed": "{what}，第 {n} 张，共 {all} 张",
  "place": "{n} / {all} · {width} × {height}",
  "viewer": "图片", "viewer.before": "上一张", "viewer.next": "下一张", "save": "保存", "close": "关闭",
  "seconds": "{n} 秒", "minutes": "{n} 分钟", "now": "刚刚", "minutes.ago": "{n} 分钟前", "hours.ago": "{n} 小时前",
  "who": "你是谁？", "who.hint": "此服务需要令牌，可用 `darkroom token 用户` 生成。令牌只保存在本标签页，关闭即忘。",
  "new.browser": "这个浏览器还未获准", "new.browser.hint": "请打开 `darkroom up` 在地址下方打印的链接，或 `darkroom link` 打印的链接，即可进入，无需输入。也可以用令牌进入。",
  "token": "令牌", "come.in": "进入", "signed.in": "已登录", "leave": "退出：忘记令牌",
  "step.waiting": "等待", "step.running": "进行中", "step.done": "完成", "step.resumed": "此前已完成", "step.failed": "失败", "step.cancelled": "已取消",
  "failed": "制作失败。", "api": "HTTP 接口", "metrics": "指标",
  "hours": "{n} 小时", "days": "{n} 天", "again": "再次下单", "again.ready": "表单已填入该任务，可修改后再提交。",
  "again.gone": "部分文件已不再保留，请重新选择。", "again.no.type": "这类任务现在无法下单。",
  "kept.other": "{what}：{name}", "kept.remove": "移除：{name}",
  "waits.offline": "当前离线。提交的任务会在本页等待，连接恢复后只发送一次。",
  "waits.sending": "当前离线，任务在此等待。连接恢复后只发送一次，请勿关闭本页。",
  "waits.lost": "暂时连不上 Darkroom，正在重试。无论发送几次，都只算一个任务。",
  "submit.stop": "停止等待", "submit.stopped": "任务未发送。",
  "back.one": "已退还 1 点", "back.many": "已退还 {n} 点",
  "head.again": "正在重试", "attempt": "第 {n} 次尝试，共 {all} 次",
  "notify.on": "完成时通知我", "notify.off": "不再通知我", "notify.is.on": "完成时，浏览器会通知你。",
  "notify.is.off": "浏览器不再通知你。", "notify.denied": "浏览器设置已屏蔽本页的通知。",
  "notify.done": "{what}已完成", "notify.failed": "{what}失败",
  "search": "搜索", "search.type": "类型", "search.every": "全部类型", "search.from": "从", "search.to": "到", "search.clear": "显示全部",
  "search.nothing": "没有符合条件的照片。", "found.some": "已找到 {n} 个", "found.all": "找到 {n} 个",
  "save.all": "全部下载", "save.found": "下载这些", "save.begun": "正在将 {n} 个作品保存为一个文件。", "save.none": "没有可保存的作品。",
  "share": "分享", "share.title": "分享这些图片", "share.how.long": "有效期",
  "share.hint": "拥有链接的人只能看到该作品的图片。链接在所选时间后失效，删除作品时也会失效。",
  "share.3600": "1 小时", "share.86400": "1 天", "share.604800": "1 周", "share.2592000": "30 天",
  "share.make": "生成链接", "share.link": "链接", "share.copy": "复制", "share.copied": "已复制。", "share.send": "发送…", "share.until": "有效至 {time}。",
  "compare.open": "对比", "compare": "在处理前后之间滑动", "compare.before": "处理前的照片",
  // What the server says in English: stages by their words, errors by their code or kind.
  "stage.queued": "排队中", "stage.starting": "开始制作", "stage.reading the photo": "读取照片",
  "stage.reading the photos": "读取照片", "stage.finding the person": "识别人物",
  "stage.cutting out the person": "抠出人物", "stage.cutting out the subject": "抠出主体", "stage.enlarging the picture": "放大图片",
  "stage.fitting the garment": "试穿服装",
  "stage.painting the scene": "绘制场景", "stage.setting the light": "调整光线", "stage.developing the picture": "冲洗照片",
  "stage.made without the studio models": "未用影棚模型制作", "stage.fetching the photos": "获取照片", "stage.developing": "冲洗中",
  "stage.drafting the picture": "生成草图", "stage.preparing the request": "准备请求",
  "stage.uploading the pictures": "上传图片", "stage.queueing the workflow": "排入工作流",
  "stage.handing the job in": "提交给 AI 服务", "stage.waiting for the service": "等待 AI 服务",
  "stage.waiting for the AI service": "等待 AI 服务", "stage.starting at the AI service": "AI 服务启动中",
  "stage.running at the AI service": "AI 服务处理中", "stage.queued at the AI service": "AI 服务排队中",
  "stage.running in ComfyUI": "ComfyUI 运行中",
  "stage.collecting the pictures": "取回图片", "stage.completed": "完成", "stage.failed": "失败", "stage.cancelled": "已取消",
  "error.bad_params": "参数有误。", "error.unknown_type": "没有这种任务类型。", "error.insufficient_credits": "点数不足。",
  "error.image_not_found": "找不到图片。", "error.image_unusable": "图片无法使用。",
  "error.no_person_found": "照片中没有找到人物。", "error.time_limit": "制作超时，点数已退还。",
  "error.ai_timeout": "AI 服务超时，点数已退还。", "error.invalid_input": "AI 服务无法处理这张图片。",
  "error.content_rejected": "内容未通过审核。", "error.provider_error": "AI 服务出错，点数已退还。",
  "error.provider_down": "AI 服务暂不可用。", "error.unknown_outcome": "AI 服务没有答复，点数已退还。",
  "error.remote_lost": "AI 服务丢失了任务，点数已退还。", "error.expired": "等待过久，已取消并退还点数。", "error.user_blocked": "此账号已被停用。",
  "error.worker_died": "制作多次中断，点数已退还。", "error.internal": "内部错误，点数已退还。",
  "error.too_many_open_tasks": "未完成的任务过多。", "error.queue_full": "当前排队已满。",
  "error.outcome_unknown": "不确定是否已保存，请先查看再重试。",
  "error.too_many_bytes": "图片文件过大。", "error.not_a_picture": "这不是可用的图片。",
  "error.already_finished": "任务已结束。", "error.not_retryable": "该任务不能重试。", "error.not_found": "没有找到。",
  "error.forbidden": "权限不足。", "error.too_many_requests": "请求过于频繁。", "error.too_many_uploads": "上传过多。",
  "error.too_many_streams": "打开的页面过多。", "error.too_large": "内容过大。", "error.not_a_file": "不支持这种文件。",
  "error.pictures_waiting": "等待处理的图片过多。", "error.unavailable": "服务暂不可用。", "error.draining": "服务正在重启。",
  "error.idempotency_key_reused": "该任务已用其他内容提交过。", "error.nothing_to_share": "没有可分享的图片。",
  "error.link_ended": "链接已失效。", "error.broken_body": "内容不完整。", "error.body_timeout": "上传超时。",
  "error.unreadable_body": "无法读取内容。", "error.start_link_needed": "这个浏览器还未获准。",
  "error.unreachable": "暂时连不上 Darkroom。", "error.unauthorized": "令牌无效或已过期。",
};

const WORDS = { en: ENGLISH, zh: CHINESE };

let language = chosen();

/** "en" or "zh": the language of the page. */
export const spoken = () => language;

function chosen() {
  const kept = localStorage.getItem(KEY);
  if (kept in WORDS) return kept;
  const first = navigator.languages.map((each) => each.slice(0, 2)).find((each) => each in WORDS);
  return first ?? "en";
}

/** The words of a name, with `{values}` put in. */
export function say(name, values = {}) {
  return filled(WORDS[language][name], values);
}

/** A template with its values; `{n|task|tasks}` is a number with the word for one, or for any other. */
export function filled(template, values, missing) {
  return template.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (_, name, one, other) => {
    const value = values[name] ?? missing;
    return one === undefined ? value : `${value} ${Math.abs(Number(value)) === 1 ? one : other}`;
  });
}

/** What the server said in English: translated where its name is known, else as it came. */
export function translated(name, text) {
  return language === "en" ? text : WORDS[language][name] ?? text;
}

/** What a task does, in the reader's language; of a type with steps the step's name stands before it, `paint: starting`. */
export function stageWords(stage) {
  const [, step = "", doing] = stage.match(/^([a-z][a-z0-9_]{0,31}: )?(.*)$/s);
  return step + translated(`stage.${doing}`, doing);
}

/** An error by its code in the page's own words, with the server's English behind them; without such words as it came. */
export function errorWords(code, message) {
  const own = translated(`error.${code}`, "");
  return own && message ? `${own}（${message}）` : own || message;
}

/** A sentence for an error of the client. */
export function explained(error) {
  const what = error.status === 0 ? translated("error.unreachable", error.message) : errorWords(error.kind, error.message);
  return error.retryAfter > 1 ? say("again.in", { what, time: duration(error.retryAfter) }) : what;
}

export function switchLanguage() {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem(KEY, language);
  showWords(document);
}

/** Put the words into a part of the page: `data-say` is what an element says, `data-label` what it is called. */
export function showWords(part) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of part.querySelectorAll("[data-say]")) element.replaceChildren(...withCode(say(element.dataset.say)));
  for (const element of part.querySelectorAll("[data-label]")) element.setAttribute("aria-label", say(element.dataset.label));
}

/** `words` in backquotes become code. */
function withCode(text) {
  return text.split("`").map((piece, n) => {
    if (n % 2 === 0) return piece;
    const code = document.createElement("code");
    code.textContent = piece;
    return code;
  });
}

export function duration(seconds) {
  if (seconds < 90) return say("seconds", { n: Math.max(1, Math.round(seconds)) });
  if (seconds < 5400) return say("minutes", { n: Math.round(seconds / 60) });
  return seconds < 172_800 ? say("hours", { n: Math.round(seconds / 3600) }) : say("days", { n: Math.round(seconds / 86_400) });
}

export function age(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  if (seconds < 45) return say("now");
  if (seconds < 5400) return say("minutes.ago", { n: Math.max(1, Math.round(seconds / 60)) });
  if (seconds < 129_600) return say("hours.ago", { n: Math.round(seconds / 3600) });
  return new Date(time).toLocaleDateString(document.documentElement.lang);
}

const titles = {};  // {type: {language: text}}, as the server declares them

/** Remember what types are called: `[{type, title}]`. */
export function knowTypes(types) {
  for (const { type, title } of types) titles[type] = title;
}

/** The name of a type of task; one without a title is named as it is written. */
export function typeName(type) {
  return inWords(titles[type], type.charAt(0).toUpperCase() + type.slice(1).replaceAll("_", " "));
}

/** Text of a declaration, `{language: text}` or one text for all, in the page's language; else in English, else in any. */
export function inWords(words, otherwise = "") {
  if (typeof words === "string") return words || otherwise;
  const given = words ?? {};
  return given[language] ?? given.en ?? Object.values(given)[0] ?? otherwise;
}

/** What a name says; where it is no name of ours, what `other` says, or `otherwise`. */
export function sayOr(name, other, values = {}, otherwise = "") {
  if (name in WORDS[language]) return say(name, values);
  return other ? say(other, values) : otherwise;
}
