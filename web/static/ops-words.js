/** The words of the operators' page in two languages; which one is read is the console's choice. */

import { spoken } from "./words.js";

const ENGLISH = {
  "skip": "Skip to what is wrong", "title": "Operations", "language.other": "中文", "console": "Console", "api": "HTTP API", "metrics": "Metrics",
  "live": "Live", "lost": "No answer; what you see is from {time}", "connecting": "Connecting",
  "well": "All is well.", "search": "Find a task by its id, its user, or words of its error", "find": "Find", "found": "Found", "found.none": "No task has this id, no user this name, and no error these words.",
  "tile.waiting": "waiting", "tile.running": "running", "tile.stuck": "stuck", "tile.slots": "slots busy", "tile.workers": "live workers", "tile.failed": "failed in the last hour",
  "chart.pending": "Waiting", "chart.running": "Running", "chart.completed": "Completed", "chart.failed": "Failed", "chart.none": "Samples come every 15 s.",
  "queue": "Queue", "running": "Running", "stuck": "Stuck", "workers": "Workers and processes", "providers": "AI services", "failures": "Failures of the last hour", "sweeps": "Last sweeps", "audit": "What operators did",
  "none": "None.", "type": "Type", "waits": "Waiting", "due": "Due", "oldest": "Oldest", "runs": "Running", "remote": "At services", "provider": "AI service", "line": "Next in line", "position": "Ahead of it", "waits.for": "Waits for", "priority": "Priority", "eta": "Done in about",
  "task": "Task", "user": "User", "status": "Status", "stage": "Stage", "progress": "%", "for": "For", "worker": "Worker", "lease": "Lease", "deadline": "Deadline", "reason.of": "Reason",
  "host": "Host", "slots": "Slots", "offers": "Offers; types", "no.worker": "no worker", "beat": "Last beat", "state": "State", "process": "Process", "restarts": "Restarts", "jobs": "Open jobs", "breaker": "Breaker", "until": "Until",
  "steps": "Steps", "step": "Step", "step.waiting": "waiting", "step.running": "running", "step.done": "done", "step.resumed": "done before", "step.failed": "failed", "step.cancelled": "cancelled",
  "code": "Code", "count": "Count", "last": "Last", "minute": "Minute", "did": "Did", "at": "At", "who.did": "Who", "action": "Action", "what": "What", "created": "Created",
  "pause": "Pause", "resume": "Resume", "drain": "Drain", "cancel": "Cancel", "retry": "Try again", "release": "Release", "sweep": "Sweep now", "resend": "Send again", "show": "Show", "undo": "Undo",
  "block": "Block", "unblock": "Unblock", "grant": "Grant", "revoke": "Revoke tokens",
  "role.viewer": "viewer", "role.operator": "operator", "role.admin": "admin", "role.command": "command line",
  "bulk": "Many tasks at once", "bulk.new": "Try again, cancel or release by a filter", "bulk.look": "Show what it would concern", "bulk.any": "any",
  "bulk.code": "Error code", "bulk.text": "Words of the error", "bulk.type": "Type", "bulk.provider": "AI service", "bulk.user": "User", "bulk.status": "Status", "bulk.from": "From", "bulk.to": "To",
  "bulk.title": "{action}: {n} tasks", "bulk.start": "{action}: {n} tasks", "bulk.started": "it has begun", "bulk.sample": "The newest of them", "bulk.list": "Begun so far", "bulk.filter": "Filter",
  "bulk.would.retry": "{n} tasks would run again, and their users would pay {credits} credits again, at the prices of before. Whoever can't pay is left as they are.",
  "bulk.would.cancel": "{n} open tasks would end, and their users would get {credits} credits back.",
  "bulk.would.release": "{n} open tasks would go to other workers, or be due at once. No attempt is counted and nobody pays again.",
  "bulk.running": "running", "bulk.stopped": "stopped", "bulk.done": "done", "bulk.acted": "Done", "bulk.refused": "Refused", "bulk.credits": "Credits",
  "bulk.failure": "It could not go on: {reason}", "refusal.insufficient_credits": "too few credits", "refusal.not_retryable": "can't be tried again", "refusal.may_be_billed_already": "may be billed already",
  "refusal.user_blocked": "user blocked", "refusal.already_finished": "already ended", "refusal.not_releasable": "nothing to release", "refusal.too_many_open_tasks": "too many open tasks", "refusal.queue_full": "queue full",
  "refusal.task_not_found": "deleted", "refusal.database": "refused by the database", "refusal.other": "other reasons",
  "bulk_stop": "Stop", "bulk_resume": "Go on", "bulk_retry": "Try many again", "bulk_cancel": "Cancel many", "bulk_release": "Release many",
  "sure.bulk_stop": "Nothing more is done after the part that is under way; what is done stays done. “Go on” undoes it.", "sure.bulk_resume": "It goes on where it was stopped. “Stop” undoes it.",
  "user.since": "Seen since", "user.balance": "Credits", "user.spent": "Taken in the last day", "user.tokens": "Tokens valid from", "user.open": "Not blocked.", "user.blocked": "Blocked since {since}: {reason}",
  "user.open.tasks": "Open tasks", "user.refusals": "Refused in the last day", "user.ended": "Ended tasks", "user.ledger": "Ledger", "user.amount": "Amount", "user.cancel": "Cancel all open", "user.requests": "requests", "user.tasks": "tasks",
  "limit.open_tasks": "Open tasks", "limit.running_tasks": "Running tasks", "limit.streams": "Streams, here", "limit.requests_per_minute": "Requests this minute", "limit.orders_per_minute": "Orders this minute", "limit.uploads_per_minute": "Uploads this minute", "limit.feed_tickets_per_minute": "Feed tickets this minute",
  "notice.blocked": "the user is blocked", "notice.no_credits": "too few credits", "notice.open_tasks": "too many open tasks", "notice.queue_full": "the queue was full", "notice.streams": "too many streams", "notice.requests": "too many requests", "notice.feed_opened": "opened the feed too often",
  "entry.grant": "grant", "entry.debit": "debit", "entry.refund": "refund", "amount": "How many credits",
  "sure.block": "Every door answers 403, and rows by SQL fail at no cost. Open tasks go on; the feed stays readable. “Unblock” undoes it.", "sure.unblock": "The user may order again at once. “Block” undoes it.",
  "sure.grant": "The user gets these credits at once. This can not be undone: the ledger only grows.", "sure.revoke": "Every token that the user has had until now is refused, and open streams end. This can not be undone; the user may log in again.",
  "week": "The last week", "week.none": "The sweep writes a row a minute; two are needed for a line.", "week.top": "up to {top}", "week.deploys": "Deploys: {list}",
  "week.pending": "Waiting", "week.running": "Running", "week.wait": "Mean wait", "week.oldest": "Oldest due", "week.completed": "Completed", "week.failed": "Failed", "week.credits": "Credits taken", "week.costs": "Costs of services, {unit}",
  "dead.letters": "Dead letters: what was given up, and why", "dead.tasks": "Failed tasks of the last {days} days", "dead.orders": "Refused orders by Dramatiq", "dead.webhooks": "Webhooks that were given up",
  "log.of": "Log of attempt {attempt}, lease {lease}, worker {worker}",
  "no": "Leave it", "reason": "Why, for those who come after you", "close": "Close", "done": "Done: {what}.",
  "sure.cancel": "The task ends, its credits are given back, and a job at an AI service is cancelled. “Try again” undoes it; the user pays again.",
  "sure.retry": "The task runs again, and its user pays again. “Cancel” undoes it.",
  "sure.release": "Whoever has the task loses it, and another worker begins it anew at once; a waiting one is due now. No attempt is counted and nobody pays again. This can not be undone: a lease that was taken away is never given back, or two could store a result.",
  "sure.drain": "The worker takes nothing new, finishes what it has or gives it back, and ends. This can not be undone, since the process is on its way out from its next heartbeat on; its supervisor starts a fresh one in its place.",
  "sure.pause.type": "Its tasks are accepted and wait. What runs goes on. “Resume” undoes it.",
  "sure.pause.provider": "It is sent nothing new; tasks wait, or go to a fallback. Jobs that it has accepted go on. “Resume” undoes it.",
  "sure.resume": "It goes on at once.", "sure.sweep": "Stuck tasks are rescued and old rows pruned now. This can not be undone; the next sweep, within a minute, would do the same.",
  "no.undo": "can not be undone",
  "sure.resend": "Its address is told again, from the beginning of the schedule, under the same webhook-id: a receiver that keeps ids leaves out what it knows. An address that wanted no more counts as living. This can not be undone: what was sent is sent.",
  "webhooks": "Webhooks", "address": "Address", "owed": "Owed / given up", "last.error": "Why", "next": "Next", "attempts": "Attempts", "failing": "failing", "gone": "wants no more",
  "webhooks.waiting": "{n} waiting", "webhooks.sending": "{n} being sent", "webhooks.delivered": "in the last hour {n} delivered", "webhooks.failed": "{n} given up", "webhooks.gone": "{n} not sent (410)",
  "webhook.waiting": "waiting", "webhook.sending": "being sent", "webhook.delivered": "delivered", "webhook.failed": "given up", "webhook.gone": "not wanted (410)",
  "paused": "paused", "closed": "up", "open": "down", "half_open": "being tried",
  "live.worker": "live", "silent": "silent", "draining": "draining", "dead": "dead", "timeline": "Timeline", "remote.jobs": "Requests to AI services", "costs": "What they cost, as the services said", "cost": "Cost", "by.operators": "By operators", "attempt": "Attempt", "attempt.said": "{attempt}; {failures} of {most} failures used", "deadline.said": "{limit}; stuck from {stuck}", "since": "Since", "charge": "Charge", "failures.of": "Failures, deaths", "error": "Error", "unchanged": "Unchanged for", "poll": "Next poll", "run_after": "Due",
  "who": "An operator's token, please", "who.hint": "`darkroom token USER --role operator` prints one. It stays in this tab and is forgotten with it.", "new.browser": "This browser is new here", "new.browser.hint": "Open the link that `darkroom up` has printed below its address, or the one that `darkroom link` prints, then this page again: nothing has to be typed. An operator's token lets you in here too.", "token": "Token", "come.in": "Come in",
  "why.completed": "It is done.",
  "why.failed": "It has failed: {error} “Try again” runs it once more; its user pays again.",
  "why.cancelled": "It was cancelled. “Try again” runs it once more; its user pays again.",
  "why.stuck.dead_worker": "Its worker is dead; the dispatcher, or the next sweep within a minute, gives it to another. “Release” does it now.",
  "why.stuck.deadline": "It has run past its deadline, {deadline_at}; the next sweep, within a minute, tries it again or fails it with its refund, but after an absence of ours or a stepped clock it has its whole time again. “Release” gives it to another worker now.",
  "why.stuck.undelivered": "It was given to its worker, which has not begun it. Look at the broker and that worker; the worker finds it at its next heartbeats, every few seconds. “Release” gives it to another now.",
  "why.stuck.remote_overdue": "{provider} has not finished by {deadline_at}. It is asked once more; if it answers that it still works, the next sweep, within a minute, fails the task with its refund.",
  "why.stuck.expired": "It has waited longer than it may; the next sweep, within a minute, fails it with its refund. A service that works on it is asked before, three times in a minute or more.",
  "why.pending.paused": "Its type is paused; “Resume” lets it go on.",
  "why.pending.no_dispatcher": "No dispatcher works (the last beat was {silent_seconds} ago), so nothing is started. `darkroom doctor` says what to do; it begins by itself once one works.",
  "why.pending.no_workers": "No worker takes tasks, so nothing is started. `darkroom doctor` says what to do; it begins by itself once one does.",
  "why.pending.no_worker_for_type": "No worker that lives takes its type {type}: it needs one that offers {needs} (DARKROOM_WORKER_OFFERS__…) and is not restricted to other types (DARKROOM_WORKER_TYPES). It begins by itself once there is one; no other task waits for it meanwhile.",
  "why.pending.needs": "It needs {needs}, and other tasks hold what workers offer of it: {position} wait ahead of it; done in about {eta_seconds}. More workers that offer it would help.",
  "why.pending.no_broker": "The broker does not answer, so nothing reaches a worker. Start it again; the task is sent within 10 s.",
  "why.pending.provider": "Its AI service {provider} has been down since {since_at}: {reason} So it waits, and no attempt is counted; one request at a time tries the service, the next at {next_at}. It waits until {expires_at} (EXPIRE_SECONDS after its order), and is then failed with its refund. Look at the service's address, key, quota and status page; “Cancel” gives the credits back.",
  "why.pending.provider_paused": "Its AI service {provider} is paused, so it waits, and no attempt is counted; “Resume” lets it go on.",
  "why.pending.postponed": "{error} So it was put back ({reason}), and no attempt is counted; it is due at {due_at}, and if this goes on it waits until {expires_at} (EXPIRE_SECONDS after its order). “Release” makes it due now.",
  "why.pending.rate_limited": "{provider} has limited our requests since {since_at}: {error} It asks for patience, so the task waits, and no attempt is counted; it is due at {due_at}, and waits until {expires_at} (EXPIRE_SECONDS after its order) at most. An earlier request would be refused too, so “Release” is not offered. See the provider's `limits.rps` and your quota there; “Cancel” gives the credits back.",
  "why.pending.died": "Its worker died under it, as {deaths} did so far; at {most_deaths} it is failed with its refund. It is due at {due_at}, “Release” makes it due now.",
  "why.pending.suspect": "Workers have died under it {deaths} times, so it may be what kills them: it runs with few others like it, at last alone, and at {most_deaths} deaths it is failed with its refund. No free slot helps; “Cancel” ends it now.",
  "why.pending.user_limit": "Its user {user} has {running} tasks running, which is the limit (RUNNING_TASKS_PER_USER {limit}): it begins when one of them ends.",
  "why.pending.type_limit": "{running} tasks of its type {type} run, which is the limit (MAX_RUNNING {limit}): it begins when one of them ends.",
  "why.pending.unknown": "{position} wait ahead of it for a free slot; when it will be done is not known. If it does not move, its service has no room.",
  "why.pending.failed": "Attempt {attempt} failed ({error}); the next is due at {due_at}. “Release” makes it due now.",
  "why.pending.later": "It waits until {due_at}; “Release” makes it due now.",
  "why.pending": "{position} wait ahead of it for a free slot; done in about {eta_seconds}. If it does not move, its service has no room.",
  "why.no_room": "Its worker lives and is {what}; what was made so far is kept. Free some space on the disks of that worker and of the file store, or bring the store back: it goes on by itself within 10 s, and until then its time limit stands still. Don't restart the worker before that.",
  "why.processing.silent": "Its worker's last heartbeat was {silent_seconds} ago: if it stays silent, the task goes to another within 20 s. Nothing is to be done.",
  "why.processing.unjudged": "Its worker's last heartbeat was {silent_seconds} ago. The dispatcher, which would give the task to another worker, is silent too ({dispatcher_seconds}), so the task stays. `darkroom doctor` says what to do.",
  "what.streams": "too many open feeds", "what.requests": "too many requests", "what.feed_opened": "feeds opened too often", "what.disk": "waiting for disk space", "what.store": "waiting for the file store",
  "why.processing.unbegun": "It was given to its worker {unbegun_seconds} ago, which has not reported yet that it has begun: the broker's message may be late or lost. The worker finds it in the database by itself, at its second heartbeat. Nothing is to be done.",
  "why.processing.asked": "Its worker lives and waits for {provider}, which was asked {asked_seconds} ago and has not answered; nothing new for {unchanged_seconds}. The call is given up in {patience_seconds}, and the task tried again while it has attempts left, else failed with its refund. “Release” asks again in another worker now, “Cancel” gives the credits back. If other tasks of {provider} hang too, “Pause” it.",
  "why.processing.asked_once": "Its worker lives and waits for {provider}, which was asked {asked_seconds} ago and has not answered; nothing new for {unchanged_seconds}. The call is given up in {patience_seconds}; as {provider} must not be asked twice (MAY_BILL_TWICE is false), the task is then failed with its refund and not asked again, and “Release” is refused. “Cancel” gives the credits back now. If other tasks of {provider} hang too, “Pause” it.",
  "why.processing": "Its worker lives and works on it with {provider}; nothing new for {unchanged_seconds}. A call of {provider} is given up after {ai_timeout_seconds}, and the whole attempt at {limit_at}: then the task is tried again while it has attempts left, else failed with its refund. “Release” gives it to another worker now, “Cancel” gives the credits back. If other tasks of {provider} hang too, “Pause” it.",
  "why.ai_processing": "{provider} has accepted it ({remote_id}) and works on it; nothing new for {unchanged_seconds}. It is asked again at {poll_at}, and given up with its refund at {deadline_at}. “Release” asks now; “Cancel” cancels it there and gives the credits back; the service's own pages know it by that id.",
  "why.ai_processing.nobody": "{provider} has accepted it ({remote_id}) and works on it, but it is not polled: no dispatcher works, or no worker takes tasks. `darkroom doctor` says what to do; polls go on once they do.",
  "why.ai_processing.provider": "{provider} has accepted it ({remote_id}) and is down or paused since {since_at} ({reason}); nothing new for {unchanged_seconds}. What it has accepted goes on: it is asked again at {poll_at}, and given up with its refund at {deadline_at}. Look at the service's key, quota and status page; “Cancel” gives the credits back.",
  "event.advanced": "Next step", "event.resumed": "Goes on at the first step that is not done",
  "event.submitted": "Submitted", "event.debited": "Paid", "event.admitted": "Admitted", "event.rejected": "Rejected", "event.claimed": "Claimed", "event.handed_off": "Handed off to the service", "event.attempt_failed": "Attempt failed", "event.retried": "Put back to try again", "event.postponed": "Postponed", "event.released": "Put back", "event.completed": "Completed", "event.failed": "Failed", "event.cancelled": "Cancelled", "event.refunded": "Given back", "event.resubmitted": "Submitted again",
  "event.webhook_sent": "Webhook sent, no answer known", "event.webhook_delivered": "Webhook delivered", "event.webhook_failed": "Webhook not delivered", "detail.try": "attempt {attempt}", "detail.answer": "answer {status}", "detail.next": "Next at {time}.",
  "detail.attempt": "attempt {attempt}, lease {lease}", "detail.worker": "worker {worker}", "detail.due": "due {time}", "detail.credits": "{n} credits", "ago": "{time} ago",
};

const CHINESE = {
  "skip": "跳到问题列表", "title": "运维", "language.other": "EN", "console": "控制台", "api": "HTTP 接口", "metrics": "指标",
  "live": "实时", "lost": "没有应答；所见为 {time} 的状态", "connecting": "连接中",
  "well": "一切正常。", "search": "按任务编号、用户或错误中的文字查找", "find": "查找", "found": "查找结果", "found.none": "没有这个编号的任务，没有这个用户，也没有含这些文字的错误。",
  "tile.waiting": "等待", "tile.running": "运行中", "tile.stuck": "卡住", "tile.slots": "占用槽位", "tile.workers": "在线工作进程", "tile.failed": "最近一小时失败",
  "chart.pending": "等待", "chart.running": "运行中", "chart.completed": "完成", "chart.failed": "失败", "chart.none": "每 15 秒采样一次。",
  "queue": "队列", "running": "运行中", "stuck": "卡住的任务", "workers": "工作进程", "providers": "AI 服务", "failures": "最近一小时的失败", "sweeps": "最近的清扫", "audit": "运维操作记录",
  "none": "无。", "type": "类型", "waits": "等待", "due": "到期", "oldest": "最久", "runs": "运行", "remote": "在服务端", "provider": "AI 服务", "line": "即将运行", "position": "前面还有", "waits.for": "已等待", "priority": "优先级", "eta": "预计完成",
  "task": "任务", "user": "用户", "status": "状态", "stage": "阶段", "progress": "%", "for": "已运行", "worker": "工作进程", "lease": "租约", "deadline": "截止", "reason.of": "原因",
  "host": "主机", "slots": "槽位", "offers": "提供；类型", "no.worker": "无工作进程", "beat": "上次心跳", "state": "状态", "process": "进程", "restarts": "重启", "jobs": "未完成请求", "breaker": "熔断器", "until": "至",
  "steps": "步骤", "step": "步骤", "step.waiting": "等待", "step.running": "运行中", "step.done": "完成", "step.resumed": "此前已完成", "step.failed": "失败", "step.cancelled": "已取消",
  "code": "代码", "count": "次数", "last": "最近", "minute": "时间", "did": "结果", "at": "时间", "who.did": "操作人", "action": "操作", "what": "对象", "created": "提交时间",
  "pause": "暂停", "resume": "恢复", "drain": "排空", "cancel": "取消", "retry": "重试", "release": "放回", "sweep": "立即清扫", "resend": "重新发送", "show": "查看", "undo": "撤销",
  "block": "停用", "unblock": "恢复用户", "grant": "充值", "revoke": "吊销令牌",
  "role.viewer": "查看", "role.operator": "运维", "role.admin": "管理", "role.command": "命令行",
  "bulk": "批量操作", "bulk.new": "按条件重试、取消或放回", "bulk.look": "先看会影响哪些任务", "bulk.any": "不限",
  "bulk.code": "错误代码", "bulk.text": "错误中的文字", "bulk.type": "类型", "bulk.provider": "AI 服务", "bulk.user": "用户", "bulk.status": "状态", "bulk.from": "从", "bulk.to": "到",
  "bulk.title": "{action}：{n} 个任务", "bulk.start": "{action} {n} 个任务", "bulk.started": "已开始", "bulk.sample": "其中最近的", "bulk.list": "已开始的批量操作", "bulk.filter": "条件",
  "bulk.would.retry": "{n} 个任务将重新运行，用户按原价再次支付共 {credits} 点；点数不足的保持不变。",
  "bulk.would.cancel": "{n} 个未完成的任务将结束，共退还用户 {credits} 点。",
  "bulk.would.release": "{n} 个未完成的任务将交给其他工作进程，或立即到期。不计入尝试次数，也不再次收费。",
  "bulk.running": "进行中", "bulk.stopped": "已停止", "bulk.done": "完成", "bulk.acted": "已做", "bulk.refused": "被拒", "bulk.credits": "点数",
  "bulk.failure": "无法继续：{reason}", "refusal.insufficient_credits": "点数不足", "refusal.not_retryable": "不能重试", "refusal.may_be_billed_already": "可能已计费",
  "refusal.user_blocked": "用户已被停用", "refusal.already_finished": "已结束", "refusal.not_releasable": "无可放回", "refusal.too_many_open_tasks": "未完成任务过多", "refusal.queue_full": "队列已满",
  "refusal.task_not_found": "已删除", "refusal.database": "数据库拒绝", "refusal.other": "其他原因",
  "bulk_stop": "停止", "bulk_resume": "继续", "bulk_retry": "批量重试", "bulk_cancel": "批量取消", "bulk_release": "批量放回",
  "sure.bulk_stop": "做完手头的一小批后不再继续；已做的不会撤回。可用“继续”撤销。", "sure.bulk_resume": "从停下的地方继续。可用“停止”撤销。",
  "user.since": "首次出现", "user.balance": "点数", "user.spent": "最近一天扣点", "user.tokens": "令牌有效起点", "user.open": "未被停用。", "user.blocked": "自 {since} 起停用：{reason}",
  "user.open.tasks": "未完成的任务", "user.refusals": "最近一天被拒", "user.ended": "已结束的任务", "user.ledger": "账本", "user.amount": "数额", "user.cancel": "取消全部未完成", "user.requests": "请求", "user.tasks": "任务",
  "limit.open_tasks": "未完成任务", "limit.running_tasks": "运行中任务", "limit.streams": "本进程的订阅", "limit.requests_per_minute": "本分钟请求", "limit.orders_per_minute": "本分钟订单", "limit.uploads_per_minute": "本分钟上传", "limit.feed_tickets_per_minute": "本分钟订阅票据",
  "notice.blocked": "用户已被停用", "notice.no_credits": "点数不足", "notice.open_tasks": "未完成任务过多", "notice.queue_full": "队列已满", "notice.streams": "订阅过多", "notice.requests": "请求过多", "notice.feed_opened": "打开订阅过于频繁",
  "entry.grant": "充值", "entry.debit": "扣点", "entry.refund": "退点", "amount": "点数",
  "sure.block": "所有入口返回 403，通过 SQL 写入的任务会失败且不扣点。未完成的任务继续；仍可读取订阅。可用“恢复用户”撤销。", "sure.unblock": "用户可立即重新下单。可用“停用”撤销。",
  "sure.grant": "点数立即到账。无法撤销：账本只增不减。", "sure.revoke": "该用户此前的所有令牌立即失效，打开的订阅会断开。无法撤销；用户可重新登录。",
  "week": "最近一周", "week.none": "清扫每分钟记录一行；至少两行才能画线。", "week.top": "最高 {top}", "week.deploys": "部署：{list}",
  "week.pending": "等待", "week.running": "运行中", "week.wait": "平均等待", "week.oldest": "最久到期", "week.completed": "完成", "week.failed": "失败", "week.credits": "扣点", "week.costs": "服务费用（{unit}）",
  "dead.letters": "死信：已放弃的内容及原因", "dead.tasks": "最近 {days} 天失败的任务", "dead.orders": "被拒绝的 Dramatiq 订单", "dead.webhooks": "已放弃的 Webhook 通知",
  "log.of": "第 {attempt} 次尝试的日志，租约 {lease}，工作进程 {worker}",
  "no": "不做", "reason": "原因（给后来的人看）", "close": "关闭", "done": "已完成：{what}。",
  "sure.cancel": "任务结束并退还点数，AI 服务上的作业会被取消。可用“重试”撤销，用户需再次付费。",
  "sure.retry": "任务重新运行，用户再次付费。可用“取消”撤销。",
  "sure.release": "当前持有者失去任务，其他工作进程立即重新开始；等待中的任务立即到期。不计入尝试次数，也不再次收费。无法撤销：收回的租约不会归还，否则可能有两个进程写入结果。",
  "sure.drain": "该进程不再接新任务，做完或放回手中任务后退出。无法撤销：从下一次心跳起它就在退出；它的监督者会启动新进程接替。",
  "sure.pause.type": "任务照常接受但等待；运行中的继续。可用“恢复”撤销。",
  "sure.pause.provider": "不再向其发送新请求；任务等待或转到备用服务。已接受的作业继续。可用“恢复”撤销。",
  "sure.resume": "立即继续。", "sure.sweep": "立即救援卡住的任务并清理旧数据。无法撤销；一分钟内的下一次清扫也会这样做。",
  "no.undo": "无法撤销",
  "sure.resend": "从重试计划的起点再次通知该地址，webhook-id 不变：记录编号的接收方会忽略已知消息。曾拒收（410）的地址视为恢复。无法撤销：已发送的内容无法收回。",
  "webhooks": "Webhook 通知", "address": "地址", "owed": "待送达 / 已放弃", "last.error": "原因", "next": "下次", "attempts": "次数", "failing": "失败中", "gone": "拒收",
  "webhooks.waiting": "等待 {n}", "webhooks.sending": "发送中 {n}", "webhooks.delivered": "最近一小时送达 {n}", "webhooks.failed": "放弃 {n}", "webhooks.gone": "未发送（410）{n}",
  "webhook.waiting": "等待", "webhook.sending": "发送中", "webhook.delivered": "已送达", "webhook.failed": "已放弃", "webhook.gone": "拒收（410）",
  "paused": "已暂停", "closed": "正常", "open": "不可用", "half_open": "试探中",
  "live.worker": "在线", "silent": "无心跳", "draining": "排空中", "dead": "已死", "timeline": "时间线", "remote.jobs": "对 AI 服务的请求", "costs": "AI 服务报告的费用", "cost": "费用", "by.operators": "运维操作", "attempt": "尝试", "attempt.said": "第 {attempt} 次；失败已用 {failures} / {most}", "deadline.said": "{limit}；{stuck} 起算卡住", "since": "自", "charge": "计费", "failures.of": "失败、进程死亡", "error": "错误", "unchanged": "未变化", "poll": "下次查询", "run_after": "到期",
  "who": "请输入运维令牌", "who.hint": "可用 `darkroom token 用户 --role operator` 生成。令牌只保存在本标签页，关闭即忘。", "new.browser": "这个浏览器还未获准", "new.browser.hint": "请先打开 `darkroom up` 在地址下方打印的链接，或 `darkroom link` 打印的链接，再打开本页，无需输入。也可以用运维令牌进入。", "token": "令牌", "come.in": "进入",
  "why.completed": "任务已完成。",
  "why.failed": "任务失败：{error}“重试”可再运行一次，用户再次付费。",
  "why.cancelled": "任务已取消。“重试”可再运行一次，用户再次付费。",
  "why.stuck.dead_worker": "它的工作进程已死；一分钟内会交给其他进程。“放回”立即执行。",
  "why.stuck.deadline": "已超过截止时间 {deadline_at}；一分钟内的下一次清扫会重试，或判失败并退款；但系统中断或时钟跳变之后，会重新给足时间。“放回”立即交给其他进程。",
  "why.stuck.undelivered": "已分配给工作进程，但尚未开始。请检查消息代理和该工作进程；它会在随后几秒的心跳中自行发现。“释放”可立即交给其他进程。",
  "why.stuck.remote_overdue": "{provider} 到 {deadline_at} 仍未完成，会再询问一次；若答复仍在处理，一分钟内的下一次清扫会判失败并退款。",
  "why.stuck.expired": "等待过久；一分钟内的下一次清扫会判失败并退款。若有服务正在处理，会先在一分钟以上的时间里询问三次。",
  "why.pending.paused": "该类型已暂停；“恢复”后继续。",
  "why.pending.no_dispatcher": "没有调度进程在工作（上次心跳在 {silent_seconds} 前），因此不会启动任何任务。`darkroom doctor` 会说明如何处理；恢复后会自动开始。",
  "why.pending.no_workers": "没有工作进程接任务，因此不会启动任何任务。`darkroom doctor` 会说明如何处理；恢复后会自动开始。",
  "why.pending.no_worker_for_type": "没有存活的工作进程接受它的类型 {type}：需要一个提供 {needs}（DARKROOM_WORKER_OFFERS__…）且未限定为其他类型（DARKROOM_WORKER_TYPES）的工作进程。出现后会自动开始；其他任务不会因它等待。",
  "why.pending.needs": "它需要 {needs}，而工作进程提供的都被其他任务占用：前面有 {position} 个；约 {eta_seconds} 后完成。增加提供它的工作进程会更快。",
  "why.pending.no_broker": "消息代理没有应答，任务送不到工作进程。请重新启动它；10 秒内会派发。",
  "why.pending.provider": "它的 AI 服务 {provider} 自 {since_at} 起不可用：{reason} 因此等待，不计入尝试次数；逐个试探，下次在 {next_at}。最多等到 {expires_at}（下单后 EXPIRE_SECONDS），届时判为失败并退还点数。请检查该服务的地址、密钥、额度和状态页；“取消”退还点数。",
  "why.pending.provider_paused": "它的 AI 服务 {provider} 已暂停，因此等待，不计入尝试次数；“恢复”后继续。",
  "why.pending.postponed": "{error} 因此被放回（{reason}），不计入尝试次数；到期时间 {due_at}，若一直如此，最多等到 {expires_at}（下单后 EXPIRE_SECONDS）。“放回”可立即到期。",
  "why.pending.rate_limited": "{provider} 自 {since_at} 起限制我们的请求频率：{error} 因此等待，不计入尝试次数；到期时间 {due_at}，最多等到 {expires_at}（下单后 EXPIRE_SECONDS）。提前请求也会被拒绝，所以不提供“放回”。请查看该服务的 `limits.rps` 和额度；“取消”退还点数。",
  "why.pending.died": "运行它的工作进程死亡，至今 {deaths} 次；到 {most_deaths} 次会判失败并退款。到期时间 {due_at}，“放回”可立即到期。",
  "why.pending.suspect": "运行它时工作进程已死亡 {deaths} 次，可能正是它所致：只与少数同类任务一起运行，最后单独运行，到 {most_deaths} 次死亡会判失败并退款。有空闲槽位也不会更快；“取消”立即结束它。",
  "why.pending.user_limit": "它的用户 {user} 有 {running} 个任务在运行，已达上限（RUNNING_TASKS_PER_USER {limit}）：其中一个结束后开始。",
  "why.pending.type_limit": "类型 {type} 有 {running} 个任务在运行，已达上限（MAX_RUNNING {limit}）：其中一个结束后开始。",
  "why.pending.unknown": "前面还有 {position} 个任务等待空闲槽位；何时完成尚不可知。若不前进，说明它的服务没有余量。",
  "why.pending.failed": "第 {attempt} 次尝试失败（{error}）；下一次在 {due_at}。“放回”可立即到期。",
  "why.pending.later": "等待到 {due_at}；“放回”可立即到期。",
  "why.pending": "前面还有 {position} 个任务等待空闲槽位，预计 {eta_seconds} 后完成。若不前进，说明它的服务没有余量。",
  "why.no_room": "它的工作进程在运行，正在{what}；已生成的内容会保留。请为该工作进程和文件存储所在的磁盘腾出空间，或恢复文件存储：10 秒内会自动继续，在此之前时限不计时。腾出空间之前请勿重启该工作进程。",
  "why.processing.silent": "它的工作进程上次心跳在 {silent_seconds} 前；若仍无心跳，20 秒内会交给其他进程。无需操作。",
  "why.processing.unjudged": "它的工作进程上次心跳在 {silent_seconds} 前，而负责转交任务的调度进程也已有 {dispatcher_seconds} 没有心跳：无人处理。`darkroom doctor` 会说明如何处理。",
  "what.streams": "同时打开的订阅过多", "what.requests": "请求过多", "what.feed_opened": "打开订阅过于频繁", "what.disk": "等待磁盘空间", "what.store": "等待文件存储",
  "why.processing.unbegun": "它在 {unbegun_seconds} 前交给了工作进程，但该进程尚未报告已开始：消息队列的通知可能延迟或丢失。工作进程会在第二次心跳时自行从数据库中发现它。无需操作。",
  "why.processing.asked": "工作进程正常，正在等待 {provider}：{asked_seconds} 前发出请求，尚无应答；{unchanged_seconds} 没有新进展。{patience_seconds} 后放弃该请求；还有尝试次数则重试，否则判失败并退款。“放回”立即由其他进程重新请求，“取消”退还点数。若 {provider} 的其他任务也停滞，请“暂停”它。",
  "why.processing.asked_once": "工作进程正常，正在等待 {provider}：{asked_seconds} 前发出请求，尚无应答；{unchanged_seconds} 没有新进展。{patience_seconds} 后放弃该请求；由于 {provider} 不可重复请求（MAY_BILL_TWICE 为 false），任务会判失败并退款，不再请求，“放回”会被拒绝。“取消”立即退还点数。若 {provider} 的其他任务也停滞，请“暂停”它。",
  "why.processing": "工作进程正常，正在用 {provider} 处理；{unchanged_seconds} 没有新进展。对 {provider} 的一次请求最多等 {ai_timeout_seconds}，整个尝试到 {limit_at} 为止：届时还有尝试次数则重试，否则判失败并退款。“放回”立即交给其他进程，“取消”退还点数。若 {provider} 的其他任务也停滞，请“暂停”它。",
  "why.ai_processing": "{provider} 已接受（{remote_id}）并在处理；{unchanged_seconds} 没有新进展。下次查询在 {poll_at}，{deadline_at} 放弃并退款。“放回”立即查询；“取消”会取消该作业并退还点数；可凭此编号在该服务的页面查询。",
  "why.ai_processing.nobody": "{provider} 已接受（{remote_id}）并在处理，但无人查询：没有调度进程在工作，或没有工作进程接任务。`darkroom doctor` 会说明如何处理；恢复后会查询。",
  "why.ai_processing.provider": "{provider} 已接受（{remote_id}），但自 {since_at} 起不可用或已暂停（{reason}）；{unchanged_seconds} 没有新进展。已接受的作业继续：下次查询在 {poll_at}，{deadline_at} 放弃并退款。请检查该服务的密钥、额度和状态页；“取消”退还点数。",
  "event.advanced": "进入下一步", "event.resumed": "从尚未完成的第一步继续",
  "event.submitted": "提交", "event.debited": "扣点", "event.admitted": "接纳", "event.rejected": "拒绝", "event.claimed": "被接手", "event.handed_off": "交给 AI 服务", "event.attempt_failed": "尝试失败", "event.retried": "放回重试", "event.postponed": "推迟", "event.released": "放回", "event.completed": "完成", "event.failed": "失败", "event.cancelled": "取消", "event.refunded": "退点", "event.resubmitted": "再次提交",
  "event.webhook_sent": "Webhook 已发出，结果未知", "event.webhook_delivered": "Webhook 已送达", "event.webhook_failed": "Webhook 未送达", "detail.try": "第 {attempt} 次", "detail.answer": "应答 {status}", "detail.next": "下次 {time}。",
  "detail.attempt": "第 {attempt} 次尝试，租约 {lease}", "detail.worker": "工作进程 {worker}", "detail.due": "到期 {time}", "detail.credits": "{n} 点", "ago": "{time} 前",
  // What the server says in English of what is wrong.
  "trouble.no_workers": "没有工作进程接任务：请启动一个，或查看它为何结束。",
  "trouble.workers_silent": "没有工作进程接任务：{count} 个正在排空，或已有 {silent_seconds} 没有心跳。它们被冻结，或无法写入数据库：请查看日志和主机，或在别处启动 `darkroom worker`。",
  "trouble.worker_silent": "{host} 上的工作进程 {subject} 已有 {silent_seconds} 没有心跳：它不再开始任何任务，已有的任务会交给其他进程。",
  "trouble.no_dispatcher": "没有调度进程：不会启动任何任务。请启动一个，或查看它为何结束。",
  "trouble.dispatcher_silent": "调度进程 {subject} 已有 {silent_seconds} 没有心跳：不会启动任何任务，也无人判断工作进程是否存活；它们的心跳时间按数据库时钟显示。它被冻结，或无法写入数据库（磁盘是否已满？）：请查看日志，再用 `kill -9` 结束该进程，会有新的进程接替。",
  "trouble.broker_away": "消息代理没有应答：任务照常接受并等待，运行中的继续。请重新启动它。",
  "trouble.stuck": "{count} 个任务卡住（{subject}）；下一次清扫会救援。",
  "trouble.no_progress": "{count} 个运行中的任务超过通常时间没有新进展，最久的是 {subject}（{unchanged_seconds}）：在下方打开它，或用 `darkroom show` 查看，会说明原因和可做的操作。",
  "trouble.remote_unmoved": "{count} 个交给 AI 服务的任务超过通常时间没有新进展，最久的是 {subject}（{unchanged_seconds}）：用 `darkroom show` 查看它在该服务的编号，以及何时放弃。",
  "trouble.no_room": "{count} 个运行中的任务在{what}，最久的是 {subject}：已生成的内容会保留。请腾出空间，或恢复文件存储；在此之前请勿重启工作进程。",
  "trouble.deadly_task": "运行 {user} 的任务 {subject}（{type}）时工作进程已死亡 {deaths} 次；到 {most_deaths} 次会判失败并退款。若正是它所致，请取消它。",
  "trouble.type_fails": "类型 {subject} 最近 {ended} 个任务中有 {failed} 个失败，多数为 {error_code}：{message} 请检查它的服务和设置；“暂停”可避免更多失败。",
  "trouble.rate_limited": "{subject} 在最近一分钟拒绝了 {count} 个请求，因为过于频繁（{message}）。任务等待，不计入尝试次数。请申请更高额度，或调低它的 limits.rps 或 limits.concurrency。",
  "trouble.at_capacity": "{subject} 在最近一分钟没有余量处理 {count} 个请求（{message}）。任务等待，不计入尝试次数。",
  "trouble.wrong_settings": "按现在的设置无法请求 {subject}：{message} 任务等待；请修正设置并重启工作进程。",
  "trouble.provider_trouble": "最近 {troubles} 个对 {subject} 的请求都出了问题：{reason} 连续 {most_troubles} 个之后会停止发送一段时间。",
  "trouble.queue_full": "队列中有 {pending} 个等待的任务，LIMITS__PENDING_TASKS 为 {limit}：新订单返回 503（至今 {times} 次）。请增加工作进程，或提高上限。",
  "trouble.queue_was_full": "队列刚才已满，有 {times} 个订单返回 503。现在有 {pending} 个等待的任务，LIMITS__PENDING_TASKS 为 {limit}。请增加工作进程，或提高上限。",
  "trouble.no_credits": "{users} 个用户因点数不足被拒绝下单，{subject} 自 {first_at} 起 {times} 次：可用 `darkroom credits grant` 充值。",
  "trouble.user_limit": "{users} 个用户的未完成任务已达 LIMITS__OPEN_TASKS_PER_USER 上限，{subject} 自 {first_at} 起被拒绝 {times} 次。",
  "trouble.user_storms": "用户 {subject} {what}：自 {first_at} 起超出 {times} 次。请检查其客户端；`darkroom token revoke` 可将其拒之门外。",
  "trouble.disk_full": "{subject} 所在磁盘已满：不接受新任务，也无法完成任务，直到腾出空间；不会丢失任何内容。",
  "trouble.disk_low": "{subject} 所在磁盘空间不足：请腾出空间，写满后将不再接受任务。",
  "trouble.database_full": "数据库服务器的磁盘已满：订单会得到 503，任务也无法完成；不会丢失任何内容。请在那台主机上腾出空间。",
  "trouble.database_read_only": "数据库服务器不接受写入：它是备库，或已被设为只读（有些云主机在磁盘满时会这样做）。不接受新任务，也无法完成任务；不会丢失任何内容。请让 DARKROOM_DATABASE_URL 指向主库，或解除只读。",
  "trouble.up_stopped": "`darkroom up`（进程 {pid}）已被暂停：结束的进程不会重启，冻结的进程也不会被终止。`kill -CONT {pid}` 可让它继续。",
  "trouble.store_away": "文件存储不可用：{reason} 上传会得到 503，图片无法显示；已生成的内容会等待存储恢复，不会丢失。",
  "trouble.clock_ahead": "本机时钟比数据库快 {off_seconds}，而令牌、链接和签名都以它为准：请在两边启用时间同步（NTP）。",
  "trouble.clock_behind": "本机时钟比数据库慢 {off_seconds}，而令牌、链接和签名都以它为准：请在两边启用时间同步（NTP）。",
  "trouble.feed_deaf": "本 Web 进程收不到变更通知：实时流停滞。原因见其日志。",
  "trouble.webhook_fails": "发往 {user} 的 {subject} 的 {owed} 个 webhook 通知未送达：{last_error} 下次在 {next_at}。",
  "trouble.queue_busy": "类型 {subject} 最早的任务已等待 {oldest_seconds}，{slots} 个槽位全部占用：请增加工作进程，或等待。",
  "trouble.provider_paused": "AI 服务 {subject} 已暂停：不再发送新请求。",
  "trouble.provider_down": "AI 服务 {subject} 自 {since_at} 起不可用（{open_seconds}）：{reason} 任务等待，逐个试探，下次在 {until_at}。请检查它的密钥、额度和状态页。",
  "trouble.type_paused": "类型 {subject} 已暂停：{pending} 个任务在等待。",
  "trouble.no_worker_for_type": "没有存活的工作进程接受类型 {subject}；等待中：{pending}。需要一个提供 {needs}（DARKROOM_WORKER_OFFERS__…）且未限定为其他类型（DARKROOM_WORKER_TYPES）的工作进程：请启动一个，或检查它为何结束。届时会自动开始，其他任务不会因它们等待。",
  "trouble.queue_old": "类型 {subject} 最早的任务已等待 {oldest_seconds}，而槽位有空闲：`darkroom show` 会说明它在等什么。",
  "trouble.sweep_none": "从未运行过清扫：请查看调度器是否在运行。",
  "trouble.sweep_silent": "上一次清扫开始于 {ago_seconds} 前：请查看调度器是否在运行。",
  "trouble.process_down": "进程 {subject} 的状态为 {state}。",
  "trouble.webhooks_late": "最早的 webhook 通知已拖欠 {oldest_seconds}：请看下方地址。",
};

const WORDS = { en: ENGLISH, zh: CHINESE };

/** The words of a name, with `{values}` put in. */
export function tell(name, values = {}) {
  return (WORDS[spoken()][name] ?? name).replace(/\{(\w+)\}/g, (_, each) => values[each] ?? "–");
}

/** What the server said in English, where the reader's language has its own words for it. */
export function told(name, values, text) {
  const withClocks = text.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, clock);
  return spoken() === "en" || !(name in CHINESE) ? withClocks : tell(name, values);
}

/** A text as an element holds it: what stands between backticks is something to type. */
export function pieces(text) {
  return text.split("`").map((piece, n) => {
    if (n % 2 === 0) return piece;
    const code = document.createElement("code");
    code.textContent = piece;
    return code;
  });
}

/** Put the words into the page: `data-tell` is what an element says. */
export function showOpsWords() {
  document.documentElement.lang = spoken() === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-tell]")) {
    element.replaceChildren(...pieces(tell(element.dataset.tell)));
  }
}

/** Seconds as people say them: 4 s, 3 min, 2 h. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

/** A time of day; with its date unless it is today's. */
export function clock(time) {
  if (!time) return "–";
  const at = new Date(time);
  const isToday = at.toDateString() === new Date().toDateString();
  const of = document.documentElement.lang;
  return isToday ? at.toLocaleTimeString(of, { hour12: false }) : at.toLocaleString(of, { hour12: false });
}
