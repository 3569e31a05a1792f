"""A shop on Django: it orders a picture from a photo, and hears of the end by a webhook.

In a project of yours take the views and the models.  As it stands, this file runs by itself:

    DARKROOM_URL=https://darkroom.example.com DARKROOM_TOKEN=… DARKROOM_WEBHOOK_KEY=whsec_… \
    SHOP_URL=https://shop.example.com SHOP_DATABASE=shop.db python django_app.py runserver --noreload 8080
"""

from __future__ import annotations

import os
import sys

import django
from darkroom_client import Darkroom, DarkroomError, Refused, WebhookRefused, verify_webhook
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a shop without sessions",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SHOP_DATABASE"]}},
    INSTALLED_APPS=[],
    MIDDLEWARE=[],
    DATA_UPLOAD_MAX_MEMORY_SIZE=20 * 1024 * 1024,  # a photo
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.core.management import execute_from_command_line  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from django.views.decorators.http import require_POST  # noqa: E402

TYPE = os.environ.get("DARKROOM_TYPE", "photography")
client = Darkroom(os.environ["DARKROOM_URL"], os.environ["DARKROOM_TOKEN"])  # for all threads


class ShopOrder(models.Model):
    number = models.CharField(max_length=64, primary_key=True)
    task_id = models.CharField(max_length=64)

    class Meta:
        app_label = "shop"


class Heard(models.Model):
    """By the task's id: a message may come before the answer to the order was noted."""

    message_id = models.CharField(max_length=100, primary_key=True)
    task_id = models.CharField(max_length=64, db_index=True)
    status = models.CharField(max_length=16)
    pictures = models.IntegerField()

    class Meta:
        app_label = "shop"


def order(request: HttpRequest, number: str) -> JsonResponse:
    """The body is a photo.  The number of the order is its key: however often it comes, it is ordered once."""
    try:
        made = client.order(
            TYPE,
            images=request.body,
            key=f"shop-{number}",
            webhook=os.environ["SHOP_URL"] + "/hooks/darkroom",
        )
    except Refused as refused:
        return JsonResponse({"detail": str(refused)}, status=refused.status)
    except DarkroomError as error:
        return JsonResponse({"detail": str(error)}, status=503)
    ShopOrder.objects.get_or_create(number=number, defaults={"task_id": made.task_id})
    return JsonResponse({"task_id": made.task_id}, status=202)


def show(_: HttpRequest, number: str) -> JsonResponse:
    found = ShopOrder.objects.filter(number=number).first()
    if found is None:
        return JsonResponse({}, status=404)
    heard = Heard.objects.filter(task_id=found.task_id)
    return JsonResponse(
        {
            "number": number,
            "task_id": found.task_id,
            "status": heard.values_list("status", flat=True).first(),
            "pictures": heard.aggregate(models.Sum("pictures", default=0))["pictures__sum"],
        }
    )


@csrf_exempt  # the signature proves the sender
@require_POST
def hear(request: HttpRequest) -> HttpResponse:
    """The id and what follows from a message are one transaction: a message that comes twice counts once."""
    try:
        message = verify_webhook(os.environ["DARKROOM_WEBHOOK_KEY"], request.headers, request.body)
    except WebhookRefused as refused:
        return JsonResponse({"detail": str(refused)}, status=400)
    task = message.task
    with transaction.atomic():
        Heard.objects.get_or_create(
            message_id=message.id,
            defaults={"task_id": task.task_id, "status": task.status, "pictures": len(task.images)},
        )
    return HttpResponse(status=204)


@csrf_exempt
def orders(request: HttpRequest, number: str) -> HttpResponse:
    return order(request, number) if request.method == "POST" else show(request, number)


urlpatterns = [path("orders/<str:number>", orders), path("hooks/darkroom", hear)]


def make_tables() -> None:
    """What migrations do in a project of yours."""
    have = connection.introspection.table_names()
    with connection.schema_editor() as editor:
        for model in (ShopOrder, Heard):
            if model._meta.db_table not in have:
                editor.create_model(model)


if __name__ == "__main__":
    make_tables()
    execute_from_command_line(sys.argv)
