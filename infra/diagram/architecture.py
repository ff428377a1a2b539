"""The architecture, described once: `python architecture.py` writes architecture.drawio, architecture.svg and .png.

Every box is a Terraform module and every icon a resource type in it; tests hold both against the code, and the
arrows against the boxes they must not cross. The PNG needs `pip install resvg-py`; the other two need nothing.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT = 1520, 1030
ICON = 52

LEGEND = {  # colour -> meaning
    "#2E8B57": "Production",
    "#2F6FDE": "Pipeline and training",
    "#E8820C": "Monitoring",
    "#7D4CC9": "Infrastructure and automation",
    "#C9302C": "Security",
}
GREEN, BLUE, ORANGE, PURPLE, RED = LEGEND


@dataclass(frozen=True)
class Item:
    "An icon."

    label: str
    resource: str  # Terraform type
    shape: str  # name in diagrams.net's aws4 library, and of a glyph below
    colour: str = ""  # the box's, if empty


@dataclass(frozen=True)
class Box:
    "A Terraform module."

    title: str
    colour: str
    x: int
    y: int
    w: int
    h: int
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Arrow:
    "From a box (or somebody outside) to another, through given points."

    source: str
    target: str
    points: tuple[tuple[int, int], ...]
    label: str = ""
    at: tuple[int, int] = (0, 0)  # of the label


BOXES = {
    "storage": Box(
        "storage",
        PURPLE,
        190,
        100,
        330,
        180,
        (
            Item("raw", "aws_s3_bucket", "s3"),
            Item("processed", "aws_s3_bucket", "s3"),
            Item("models", "aws_s3_bucket", "s3"),
            Item("logs", "aws_s3_bucket", "s3"),
        ),
    ),
    "models": Box(
        "models",
        BLUE,
        620,
        100,
        400,
        180,
        (
            Item("pipeline", "aws_sagemaker_pipeline", "sagemaker"),
            Item("model registry", "aws_sagemaker_model_package_group", "sagemaker_model"),
            # made by each deployment; its log group is what Terraform has of it
            Item("endpoint, 1-5", "aws_cloudwatch_log_group", "application_auto_scaling", GREEN),
        ),
    ),
    "entry": Box(
        "entry",
        GREEN,
        1110,
        100,
        290,
        180,
        (
            Item("firewall", "aws_wafv2_web_acl", "waf"),
            Item("HTTPS", "aws_lb", "application_load_balancer"),
            Item("sign-in", "aws_cognito_user_pool", "cognito"),
        ),
    ),
    "images": Box(
        "images",
        BLUE,
        190,
        360,
        330,
        170,
        (
            Item("processing", "aws_ecr_repository", "ecr"),
            Item("training", "aws_ecr_repository", "ecr"),
            Item("inference", "aws_ecr_repository", "ecr"),
        ),
    ),
    "orchestration": Box(
        "orchestration",
        PURPLE,
        620,
        360,
        400,
        170,
        (
            Item("5 rules", "aws_cloudwatch_event_rule", "eventbridge"),
            Item("POST /retrain", "aws_apigatewayv2_api", "api_gateway"),
            Item("retraining", "aws_sfn_state_machine", "step_functions"),
        ),
    ),
    "monitoring": Box(
        "monitoring",
        ORANGE,
        1110,
        360,
        290,
        170,
        (
            Item("3 schedules", "aws_scheduler_schedule", "eventbridge_scheduler"),
            Item("9 alarms", "aws_cloudwatch_metric_alarm", "cloudwatch_2"),
            Item("budget", "aws_budgets_budget", "budgets_2"),
        ),
    ),
    "audit": Box(
        "audit",
        RED,
        190,
        610,
        330,
        160,
        (
            Item("trail", "aws_cloudtrail", "cloudtrail"),
            Item("log", "aws_cloudwatch_log_group", "cloudwatch_2"),
        ),
    ),
    "functions": Box(
        "functions",
        PURPLE,
        620,
        610,
        400,
        160,
        (
            Item("5 functions", "aws_lambda_function", "lambda"),
            Item("undelivered", "aws_sqs_queue", "sqs"),
        ),
    ),
    "notification": Box(
        "notification",
        ORANGE,
        1110,
        610,
        290,
        160,
        (
            Item("alerts", "aws_sns_topic", "sns"),
            Item("subscriptions", "aws_sns_topic_subscription", "simple_email_service"),
        ),
    ),
    "keys": Box(
        "keys",
        RED,
        190,
        840,
        330,
        150,
        (
            Item("key", "aws_kms_key", "key_management_service"),
            Item("Slack webhook", "aws_secretsmanager_secret", "secrets_manager"),
        ),
    ),
    "identity": Box("identity", RED, 620, 840, 400, 150, (Item("roles", "aws_iam_role", "role"),)),
    "network": Box(
        "network",
        RED,
        1110,
        840,
        290,
        150,
        (
            Item("VPC", "aws_vpc", "vpc"),
            Item("endpoints", "aws_vpc_endpoint", "endpoints"),
            Item("flow log", "aws_flow_log", "vpc_flow_logs"),
        ),
    ),
}

OUTSIDE = {"images of skin lesions": (90, 190), "clinicians": (1465, 190), "the team": (1465, 690)}

ARROWS = (
    Arrow("images of skin lesions", "storage", ((130, 190), (190, 190))),
    Arrow("storage", "models", ((520, 150), (620, 150)), "data", (570, 143)),
    Arrow("images", "models", ((520, 445), (550, 445), (550, 195), (620, 195)), "containers", (570, 188)),
    Arrow("functions", "models", ((620, 690), (585, 690), (585, 245), (620, 245)), "deploy", (585, 590)),
    Arrow("clinicians", "entry", ((1435, 190), (1400, 190))),
    Arrow("entry", "models", ((1110, 190), (1020, 190)), "predict", (1065, 183)),
    Arrow(
        "models",
        "monitoring",
        ((960, 280), (960, 320), (1255, 320), (1255, 360)),
        "metrics, captured data",
        (1108, 313),
    ),
    Arrow("monitoring", "orchestration", ((1110, 420), (1020, 420)), "drift", (1065, 413)),
    Arrow("orchestration", "models", ((740, 360), (740, 280)), "start", (766, 324)),
    Arrow("orchestration", "functions", ((820, 530), (820, 610)), "invoke", (848, 574)),
    Arrow(
        "orchestration", "notification", ((1020, 490), (1065, 490), (1065, 690), (1110, 690)), "outcome", (1065, 590)
    ),
    Arrow("monitoring", "notification", ((1255, 530), (1255, 610)), "alarms", (1283, 574)),
    Arrow("notification", "the team", ((1400, 690), (1435, 690))),
    Arrow("storage", "audit", ((190, 250), (160, 250), (160, 690), (190, 690)), "every access", (160, 324)),
)

GLYPHS = {  # 24 x 24, white strokes
    "s3": "M5 6 L7 20 H17 L19 6 M5 6 A7 2.5 0 0 0 19 6 A7 2.5 0 0 0 5 6 M9 12 H15",
    "sagemaker": "M12 3 V8 M12 16 V21 M3 12 H8 M16 12 H21 M8 12 A4 4 0 1 0 16 12 A4 4 0 1 0 8 12"
    " M5.5 5.5 L9 9 M15 15 L18.5 18.5",
    "sagemaker_model": "M4 8 L12 4 L20 8 L12 12 Z M4 12 L12 16 L20 12 M4 16 L12 20 L20 16",
    "application_auto_scaling": "M9 9 H15 V15 H9 Z M12 2 V6 M12 18 V22 M2 12 H6 M18 12 H22 M10 4 L12 2 L14 4"
    " M10 20 L12 22 L14 20 M4 10 L2 12 L4 14 M20 10 L22 12 L20 14",
    "waf": "M12 3 L20 6 V12 C20 17 16 20 12 21 C8 20 4 17 4 12 V6 Z M8 12 H16",
    "application_load_balancer": "M4 12 A3 3 0 1 0 10 12 A3 3 0 1 0 4 12 M10 12 H14 M14 5 H20 M14 12 H20 M14 19 H20"
    " M14 5 V19",
    "cognito": "M8 8 A4 4 0 1 0 16 8 A4 4 0 1 0 8 8 M4 21 C4 15 20 15 20 21",
    "ecr": "M4 8 L12 4 L20 8 V16 L12 20 L4 16 Z M4 8 L12 12 L20 8 M12 12 V20",
    "eventbridge": "M12 3 L20 8 V16 L12 21 L4 16 V8 Z M12 8 V12 L16 14 M12 12 L8 14",
    "api_gateway": "M9 4 L4 12 L9 20 M15 4 L20 12 L15 20 M13 6 L11 18",
    "step_functions": "M9 3 H15 V8 H9 Z M3 16 H9 V21 H3 Z M15 16 H21 V21 H15 Z M12 8 V12 M6 16 V12 H18 V16",
    "eventbridge_scheduler": "M3 12 A9 9 0 1 0 21 12 A9 9 0 1 0 3 12 M12 6 V12 L16 15",
    "cloudwatch_2": "M3 18 L8 11 L12 15 L17 6 L21 10 M3 21 H21",
    "budgets_2": "M3 12 A9 9 0 1 0 21 12 A9 9 0 1 0 3 12"
    " M15 8 C14 6 9 6 9 9 C9 12 15 11 15 15 C15 18 10 18 9 16 M12 5 V7 M12 17 V19",
    "cloudtrail": "M4 20 C4 12 20 14 20 5 M17 4 H21 V8 M4 16 V20 H8",
    "lambda": "M6 4 H10 L18 20 M11 10 L6 20",
    "sqs": "M3 8 H21 V16 H3 Z M9 8 V16 M15 8 V16",
    "sns": "M6 17 V11 A6 6 0 0 1 18 11 V17 M4 17 H20 M10 20 H14",
    "simple_email_service": "M3 6 H21 V18 H3 Z M3 7 L12 13 L21 7",
    "key_management_service": "M4 9 A4 4 0 1 0 12 9 A4 4 0 1 0 4 9 M11 12 L20 20 M16 16 L18 14 M18 18 L20 16",
    "secrets_manager": "M6 11 H18 V20 H6 Z M8 11 V8 A4 4 0 0 1 16 8 V11 M12 14 V17",
    "role": "M12 3 L20 6 V12 C20 17 16 20 12 21 C8 20 4 17 4 12 V6 Z M8.5 12 L11 14.5 L15.5 9.5",
    "vpc": "M7 17 A4 4 0 0 1 7 9 A6 6 0 0 1 18 9 A4 4 0 0 1 18 17 Z",
    "endpoints": "M3 12 A3 3 0 1 0 9 12 A3 3 0 1 0 3 12 M9 12 H15 M15 12 A3 3 0 1 0 21 12 A3 3 0 1 0 15 12",
    "vpc_flow_logs": "M3 8 H15 M12 5 L15 8 L12 11 M21 16 H9 M12 13 L9 16 L12 19",
}


def centres(
    box: Box,
) -> list[tuple[float, float]]:  # one for each icon
    "Icons stand in a row, evenly."
    step = box.w / len(box.items)
    return [(box.x + step * (i + 0.5), box.y + 34 + (box.h - 34 - 22) / 2) for i in range(len(box.items))]


def segments(
    arrow: Arrow,
) -> list[tuple[tuple[int, int], tuple[int, int]]]:  # its straight pieces
    "An arrow, piece by piece."
    return list(zip(arrow.points, arrow.points[1:]))


def svg() -> str:  # a whole file
    "The picture."
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="Helvetica, Arial, DejaVu Sans, sans-serif">',
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L10 5 L0 10 z" fill="#444"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(190, 48, "Skin lesion classification on AWS", 24, "start", "bold"),
    ]
    for i, (colour, meaning) in enumerate(LEGEND.items()):
        x = 680 + [0, 120, 300, 420, 655][i]
        out.append(f'<rect x="{x}" y="34" width="16" height="16" rx="3" fill="{colour}"/>')
        out.append(_text(x + 22, 47, meaning, 13, "start"))
    for box in BOXES.values():
        out += _svg_box(box)
    for arrow in ARROWS:
        path = " L".join(f"{x} {y}" for x, y in arrow.points)
        out.append(f'<path d="M{path}" fill="none" stroke="#444" stroke-width="1.8" marker-end="url(#head)"/>')
        if arrow.label:
            out.append(_halo(*arrow.at, arrow.label))
    for name, (x, y) in OUTSIDE.items():
        out.append(f'<circle cx="{x}" cy="{y - 12}" r="8" fill="none" stroke="#444" stroke-width="1.8"/>')
        out.append(f'<path d="M{x - 14} {y + 16} C{x - 14} {y - 4} {x + 14} {y - 4} {x + 14} {y + 16}" fill="none" '
                   'stroke="#444" stroke-width="1.8"/>')  # fmt: skip
        for i, line in enumerate(_wrapped(name)):
            out.append(_text(x, y + 34 + 15 * i, line, 13))
    return "\n".join([*out, "</svg>", ""])


def _wrapped(name: str) -> list[str]:
    "At most two words a line."
    words = name.split()
    return [" ".join(words[i : i + 2]) for i in range(0, len(words), 2)]


def _text(x: float, y: float, text: str, size: int, anchor: str = "middle", weight: str = "normal") -> str:
    "A line of text."
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" fill="#222">'
        f"{html.escape(text)}</text>"
    )


def _halo(x: float, y: float, text: str) -> str:
    "A label that can lie on a line."
    w = 6.4 * len(text) + 8
    return f'<rect x="{x - w / 2}" y="{y - 11}" width="{w}" height="15" fill="white"/>' + _text(x, y, text, 12)


def _svg_box(box: Box) -> list[str]:
    "A module with its icons."
    out = [
        f'<rect x="{box.x}" y="{box.y}" width="{box.w}" height="{box.h}" rx="8" fill="{box.colour}" '
        f'fill-opacity="0.06" stroke="{box.colour}" stroke-width="2"/>',
        _text(box.x + 12, box.y + 22, box.title, 15, "start", "bold"),
    ]
    for item, (x, y) in zip(box.items, centres(box)):
        half, scale = ICON / 2, ICON / 24
        out.append(f'<rect x="{x - half}" y="{y - half}" width="{ICON}" height="{ICON}" rx="6" '
                   f'fill="{item.colour or box.colour}"/>')  # fmt: skip
        out.append(f'<path transform="translate({x - half + 6} {y - half + 6}) scale({scale * 0.77:.3f})" '
                   f'd="{GLYPHS[item.shape]}" fill="none" stroke="white" stroke-width="1.6" '
                   'stroke-linecap="round" stroke-linejoin="round"/>')  # fmt: skip
        out.append(_text(x, y + half + 16, item.label, 13))
    return out


def drawio() -> str:  # a whole file
    "The same for diagrams.net and Lucidchart, with the AWS icons of their library."
    cells = ['<mxCell id="0"/>', '<mxCell id="1" parent="0"/>']

    def vertex(name: str, value: str, style: str, x: float, y: float, w: float, h: float) -> None:
        cells.append(
            f'<mxCell id="{html.escape(name)}" value="{html.escape(value)}" style="{style}" vertex="1" parent="1">'
            f'<mxGeometry x="{x}" y="{y}" width="{w}" height="{h}" as="geometry"/></mxCell>'
        )

    for name, box in BOXES.items():
        style = (
            f"rounded=1;arcSize=4;html=1;strokeWidth=2;strokeColor={box.colour};fillColor={box.colour};fillOpacity=6;"
        )
        style += "verticalAlign=top;align=left;spacingLeft=10;spacingTop=4;fontStyle=1;fontSize=15;"
        vertex(name, box.title, style, box.x, box.y, box.w, box.h)
        for i, (item, (x, y)) in enumerate(zip(box.items, centres(box))):
            style = f"sketch=0;outlineConnect=0;fillColor={item.colour or box.colour};strokeColor=#ffffff;html=1;"
            style += "fontSize=13;verticalLabelPosition=bottom;verticalAlign=top;align=center;aspect=fixed;"
            style += f"shape=mxgraph.aws4.resourceIcon;resIcon=mxgraph.aws4.{item.shape};"
            vertex(f"{name}-{i}", item.label, style, x - ICON / 2, y - ICON / 2, ICON, ICON)
    for name, (x, y) in OUTSIDE.items():
        style = "shape=mxgraph.aws4.user;html=1;fillColor=#444444;strokeColor=none;verticalLabelPosition=bottom;"
        vertex(name, "<br>".join(_wrapped(name)), style + "verticalAlign=top;fontSize=13;", x - 18, y - 18, 36, 36)
    for i, (colour, meaning) in enumerate(LEGEND.items()):
        style = f"rounded=1;html=1;fillColor={colour};strokeColor=none;fontColor=#ffffff;fontSize=12;"
        vertex(f"legend-{i}", meaning, style, 330 + 215 * i, 20, 200, 30)
    for i, arrow in enumerate(ARROWS):
        cells.append(_drawio_edge(i, arrow))
    return (
        '<mxfile host="app.diagrams.net"><diagram id="architecture" name="Architecture">'
        f'<mxGraphModel dx="{WIDTH}" dy="{HEIGHT}" grid="1" gridSize="10" page="1" pageWidth="{WIDTH}" '
        f'pageHeight="{HEIGHT}"><root>{"".join(cells)}</root></mxGraphModel></diagram></mxfile>\n'
    )


def _place(name: str, point: tuple[int, int]) -> tuple[float, float]:
    "Where on a shape an arrow touches it, in shares of its width and height."
    if name in OUTSIDE:
        return (1.0 if point[0] > OUTSIDE[name][0] else 0.0), 0.5
    box = BOXES[name]
    return round((point[0] - box.x) / box.w, 4), round((point[1] - box.y) / box.h, 4)


def _drawio_edge(number: int, arrow: Arrow) -> str:
    "An arrow through the same points."
    (ax, ay), (bx, by) = _place(arrow.source, arrow.points[0]), _place(arrow.target, arrow.points[-1])
    style = f"html=1;rounded=0;endArrow=block;strokeColor=#444444;fontSize=12;labelBackgroundColor=#ffffff;exitX={ax};"
    style += f"exitY={ay};exitDx=0;exitDy=0;entryX={bx};entryY={by};entryDx=0;entryDy=0;"
    through = "".join(f'<mxPoint x="{x}" y="{y}"/>' for x, y in arrow.points[1:-1])
    array = f'<Array as="points">{through}</Array>' if through else ""
    return (
        f'<mxCell id="arrow-{number}" value="{html.escape(arrow.label)}" style="{style}" edge="1" parent="1" '
        f'source="{html.escape(arrow.source)}" target="{html.escape(arrow.target)}">'
        f'<mxGeometry relative="1" as="geometry">{array}</mxGeometry></mxCell>'
    )


if __name__ == "__main__":
    (HERE / "architecture.svg").write_text(svg())
    (HERE / "architecture.drawio").write_text(drawio())
    try:
        import resvg_py
    except ImportError:
        print("no PNG: pip install resvg-py")
    else:
        (HERE / "architecture.png").write_bytes(bytes(resvg_py.svg_to_bytes(svg_string=svg())))
