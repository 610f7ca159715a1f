"""Makes the example documents of this folder. Every figure in them is a public fact; sources are named in the texts.

Run it with the development dependencies installed: ``python examples/make_documents.py``. The output is committed, so
nobody needs to run it to try the demo; it exists so that the documents can be checked and changed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

HERE = Path(__file__).parent
STYLES = getSampleStyleSheet()
BODY = ParagraphStyle("body", parent=STYLES["BodyText"], fontSize=10.5, leading=15, spaceAfter=8)
SCAN_SIZE = (827, 1169)  # A4 at 100 dots per inch

REPORT: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = (
    (
        "Renewable power at the end of 2023",
        (
            "At the end of 2023 the renewable power stations of the world had a capacity of about 3,870 gigawatts, "
            "according to the International Renewable Energy Agency (IRENA, Renewable Capacity Statistics 2024). "
            "That was 473 gigawatts more than a year before, the largest yearly addition recorded until then.",
            "Solar power accounted for almost three quarters of the new capacity. It grew by about 346 gigawatts and "
            "reached 1,419 gigawatts, which made it the largest renewable source by capacity, ahead of hydropower at "
            "1,268 gigawatts. Wind power grew by about 116 gigawatts and passed one thousand gigawatts.",
            "Capacity is not the same as energy. A solar station delivers its full power only in bright sun, while "
            "a geothermal plant runs day and night. Hydropower therefore still gave more electricity in 2023 than any "
            "other renewable source, although solar power had overtaken it in capacity.",
            "The think tank Ember counted that renewable sources gave 30 percent of the world's electricity in 2023, "
            "the first year in which that share was reached.",
        ),
        (
            ("Source", "Capacity end of 2023 (GW)", "Added in 2023 (GW)"),
            ("Solar", "1,419", "346"),
            ("Hydropower", "1,268", "7"),
            ("Wind", "1,017", "116"),
            ("Bioenergy", "150", "4"),
            ("Geothermal", "15", "0.2"),
        ),
    ),
    (
        "Water",
        (
            "Hydropower is the oldest renewable source of electricity that is used on a large scale. The Vulcan Street "
            "Plant on the Fox River in Appleton, Wisconsin, began to sell electricity in 1882. It was driven by the "
            "water of the river and lit the house of its owner and two paper mills.",
            "The Three Gorges Dam on the Yangtze River in China is the largest power station of any kind in the world. "
            "Its 32 main generators of 700 megawatts each and two smaller ones give it a capacity of 22,500 megawatts. "
            "Itaipu, on the Parana River between Brazil and Paraguay, has 20 generators of 700 megawatts each.",
            "Tides can drive turbines too. The tidal power station on the Rance in Brittany opened in 1966 with 24 "
            "turbines and 240 megawatts. It remained the largest of its kind for 45 years, until the Sihwa Lake plant "
            "in South Korea opened in 2011 with 254 megawatts.",
        ),
        (
            ("Station", "Country", "River", "Capacity (MW)"),
            ("Three Gorges", "China", "Yangtze", "22,500"),
            ("Baihetan", "China", "Jinsha", "16,000"),
            ("Itaipu", "Brazil and Paraguay", "Parana", "14,000"),
            ("Xiluodu", "China", "Jinsha", "13,860"),
            ("Grand Coulee", "United States", "Columbia", "6,809"),
        ),
    ),
    (
        "Wind",
        (
            "In 1887 James Blyth built a wind turbine in Marykirk in Scotland to charge batteries for the lamps in his "
            "holiday cottage. In the winter of 1887 to 1888 Charles Brush built a much larger one in Cleveland, Ohio.",
            "No turbine can take all the energy out of the wind, because the air has to move on behind it. In 1919 "
            "the German physicist Albert Betz calculated that an ideal rotor can take at most 16/27 of it, or 59.3 "
            "percent. This is known as the Betz limit.",
            "The first offshore wind farm, Vindeby in Denmark, went into service in 1991. Its eleven turbines of 450 "
            "kilowatts each had less than five megawatts together. Hornsea One, off the coast of England, was finished "
            "in 2020 and has 174 turbines of seven megawatts each, 1,218 megawatts in all.",
        ),
        (
            ("Wind farm", "Country", "Year", "Turbines", "Capacity (MW)"),
            ("Vindeby", "Denmark", "1991", "11", "4.95"),
            ("Middelgrunden", "Denmark", "2000", "20", "40"),
            ("Horns Rev 1", "Denmark", "2002", "80", "160"),
            ("London Array", "United Kingdom", "2013", "175", "630"),
            ("Hornsea One", "United Kingdom", "2020", "174", "1,218"),
        ),
    ),
    (
        "Sun and heat",
        (
            "Edmond Becquerel observed in 1839 that light can make an electric current flow. In 1954 Daryl Chapin, "
            "Calvin Fuller and Gerald Pearson showed the first practical silicon solar cell at Bell Laboratories. It "
            "turned about six percent of the light into electricity.",
            "A solar cell with a single junction cannot turn more than about 33.7 percent of sunlight into current. "
            "William Shockley and Hans Queisser described this limit in 1961. Stacked cells can pass it because each "
            "layer takes another part of the spectrum.",
            "At Larderello in Italy geothermal steam lit five bulbs in 1904, and the first geothermal power station "
            "went into service there in 1913. Iceland heats most of its houses with hot water from the ground.",
        ),
        (
            ("Limit", "Applies to", "Value"),
            ("Betz", "Wind turbines", "59.3 %"),
            ("Shockley-Queisser", "Single-junction solar cells", "33.7 %"),
        ),
    ),
)  # fmt: skip

STORAGE: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = (
    (
        "Storing electricity",
        (
            "Electricity has to be made at the moment it is used, unless it is stored. Nearly all large stores are "
            "pumped-storage power stations: they pump water into an upper lake when power is plentiful and let it run "
            "down through turbines when power is short. About three quarters of the energy comes back.",
            "Bath County in Virginia opened in 1985 and has a capacity of 3,003 megawatts. Dinorwig in Wales opened in "
            "1984. Its 1,728 megawatts stand in caverns inside a mountain, and its turbines can reach full power in "
            "about 16 seconds when they are kept spinning in air.",
        ),
        (
            ("Station", "Country", "Opened", "Capacity (MW)"),
            ("Bath County", "United States", "1985", "3,003"),
            ("Dinorwig", "United Kingdom", "1984", "1,728"),
            ("Goldisthal", "Germany", "2003", "1,060"),
        ),
    ),
    (
        "Batteries",
        (
            "The Hornsdale Power Reserve in South Australia was the largest lithium-ion battery in the world when "
            "it opened in 2017, with 100 megawatts and 129 megawatt-hours. It was built beside the wind farm and "
            "enlarged to 150 megawatts in 2020.",
            "Batteries answer within a fraction of a second, which makes them useful for holding the frequency of the "
            "grid steady. Pumped storage holds far more energy, which makes it useful for whole evenings.",
        ),
        (),
    ),
)  # fmt: skip

SCANNED_LINES = (
    "DELIVERY NOTE",
    "",
    "Eleven turbine blades, 17 metres each",
    "Port of loading: Esbjerg",
    "Received in good order",
    "",
    "This page is a picture of text.",
)


def write_report(name: str, title: str, sections: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]) -> None:
    """A PDF with one section per page: heading, paragraphs, a ruled table, and an outline entry."""
    story: list[Flowable] = [Paragraph(title, STYLES["Title"])]
    for number, (heading, texts, rows) in enumerate(sections):
        if number:
            story.append(PageBreak())
        story.append(_Outlined(heading, STYLES["Heading1"]))
        story.extend(Paragraph(text, BODY) for text in texts)
        if rows:
            story.extend((Spacer(1, 4 * mm), _ruled([list(row) for row in rows])))
    document = SimpleDocTemplate(
        str(HERE / name), pagesize=A4, leftMargin=25 * mm, rightMargin=25 * mm, title=title,
        author="AgentNexus examples", subject="Written for the examples from public facts", invariant=1,
    )  # fmt: skip
    document.build(story)


class _Outlined(Paragraph):
    """A heading that also appears in the document's outline."""

    def draw(self) -> None:
        heading = self.getPlainText()
        self.canv.bookmarkPage(heading)
        self.canv.addOutlineEntry(heading, heading)
        super().draw()


def _ruled(rows: list[list[str]]) -> Table:
    table = Table(rows, hAlign="LEFT")
    table.setStyle(
        TableStyle(
            [
                ("GRID", (0, 0), (-1, -1), 0.5, colors.grey),
                ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#e8eef7")),
                ("FONTSIZE", (0, 0), (-1, -1), 9.5),
            ]
        )
    )
    return table


def write_scan(name: str) -> None:
    """A PDF that holds nothing but a picture of a typed page, slightly turned, as a scanner gives it."""
    paper = Image.new("L", SCAN_SIZE, 250)
    pen = ImageDraw.Draw(paper)
    for number, line in enumerate(SCANNED_LINES):
        pen.text((90, 140 + number * 44), line, fill=40, font=ImageFont.load_default(size=26))
    turned = paper.rotate(0.8, fillcolor=250)
    picture = io.BytesIO()
    turned.save(picture, "JPEG", quality=60)
    canvas = Canvas(str(HERE / name), pagesize=A4, invariant=1)
    canvas.setTitle("Scanned delivery note")
    canvas.drawImage(ImageReader(io.BytesIO(picture.getvalue())), 0, 0, *A4)
    canvas.showPage()
    canvas.save()


def main() -> None:
    """Write every document beside this script."""
    write_report("renewables-report.pdf", "Renewable power: where it stands and how it began", REPORT)
    write_report("storage-brief.pdf", "Storing electricity: a brief", STORAGE)
    write_scan("scanned-note.pdf")


if __name__ == "__main__":
    main()
