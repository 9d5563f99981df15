//! Writes SVG as PDF for papers: vectors, and text in fonts that are embedded.
//!
//! It knows what [`super::svg`] writes: groups, paths in plain colours, and text.

use std::collections::HashMap;

use krilla::Document;
use krilla::color::rgb;
use krilla::geom::{Path, PathBuilder, Point, Transform};
use krilla::num::NormalizedF32;
use krilla::page::PageSettings;
use krilla::paint::{Fill, LineCap, LineJoin, Stroke, StrokeDash};
use krilla::surface::Surface;
use krilla::text::{Font, GlyphId, KrillaGlyph};
use resvg::tiny_skia::PathSegment;
use resvg::usvg::{self, Node, Tree, fontdb};

use super::FigureError;
use super::page::POINTS_PER_UNIT;
use super::svg::SHOWN;
use super::tree::tree;

/// Writes an SVG document of [`super::figure`] as a PDF of one page, which is as wide as the figure on paper. `others` are the contents of
/// font files, for the characters that the embedded font lacks ([`super::uncovered`]). Equal documents give equal bytes.
///
/// # Errors
/// [`FigureError::Render`] for text that is no SVG, or that the figure's pages have nothing of.
pub fn pdf(svg: &str, others: Vec<Vec<u8>>) -> Result<Vec<u8>, FigureError> {
    let tree = tree(svg, others)?;
    let scale = (POINTS_PER_UNIT / SHOWN) as f32;
    let (width, height) = (tree.size().width() * scale, tree.size().height() * scale);
    let settings = PageSettings::from_wh(width, height)
        .ok_or_else(|| FigureError::Render(format!("{width} x {height} points is no size for a page")))?;
    let mut document = Document::new();
    let mut page = document.start_page_with(settings);
    let mut surface = page.surface();
    surface.push_transform(&Transform::from_scale(scale, scale));
    let mut drawing = Drawing { tree: &tree, fonts: HashMap::new() };
    let drawn = drawing.group(&mut surface, tree.root());
    surface.pop();
    surface.finish();
    page.finish();
    drawn.ok_or_else(|| FigureError::Render("PDF has no form for a part of it".to_owned()))?;
    document.finish().map_err(|error| FigureError::Render(format!("{error:?}")))
}

/// A drawing on its way to PDF. Its functions return none for what has no form there.
struct Drawing<'a> {
    tree: &'a Tree,
    fonts: HashMap<fontdb::ID, Font>,
}

impl Drawing<'_> {
    fn group(&mut self, surface: &mut Surface<'_>, group: &usvg::Group) -> Option<()> {
        surface.push_transform(&transform(group.transform()));
        let drawn = group.children().iter().try_for_each(|node| match node {
            Node::Group(group) => self.group(surface, group),
            Node::Path(path) => draw_path(surface, path),
            Node::Text(text) => self.text(surface, text),
            Node::Image(_) => None,
        });
        surface.pop();
        drawn
    }

    fn text(&mut self, surface: &mut Surface<'_>, text: &usvg::Text) -> Option<()> {
        for span in text.layouted() {
            let (size, fill) = (span.font_size.get(), fill(span.fill.as_ref())?);
            surface.set_fill(fill);
            surface.set_stroke(None);
            for glyph in &span.positioned_glyphs {
                let font = self.font(glyph.font)?;
                // The glyph's transform scales from the units of its font to its size, which PDF does by itself.
                let units = font.units_per_em() / size;
                surface.push_transform(&transform(glyph.transform().pre_scale(units, units)));
                let id = GlyphId::new(glyph.id.0);
                let drawn = KrillaGlyph::new(id, 0.0, 0.0, 0.0, 0.0, 0..glyph.text.len(), None);
                surface.draw_glyphs(Point::from_xy(0.0, 0.0), &[drawn], font, &glyph.text, size, false);
                surface.pop();
            }
        }
        Some(())
    }

    fn font(&mut self, id: fontdb::ID) -> Option<Font> {
        if let Some(known) = self.fonts.get(&id) {
            return Some(known.clone());
        }
        let read = |data: &[u8], index| Font::new(data.to_vec().into(), index);
        let font = self.tree.fontdb().with_face_data(id, read)??;
        self.fonts.insert(id, font.clone());
        Some(font)
    }
}

fn draw_path(surface: &mut Surface<'_>, path: &usvg::Path) -> Option<()> {
    let (fill, stroke) = (fill(path.fill())?, stroke(path.stroke())?);
    // Without either, the default of PDF would be to fill it.
    if fill.is_some() || stroke.is_some() {
        surface.set_fill(fill);
        surface.set_stroke(stroke);
        surface.draw_path(&outline(path)?);
    }
    Some(())
}

/// None inside if nothing is filled.
fn fill(fill: Option<&usvg::Fill>) -> Option<Option<Fill>> {
    let Some(fill) = fill else { return Some(None) };
    let opacity = NormalizedF32::new(fill.opacity().get())?;
    Some(Some(Fill { paint: colour(fill.paint())?.into(), opacity, ..Fill::default() }))
}

/// None inside if no line is drawn.
fn stroke(stroke: Option<&usvg::Stroke>) -> Option<Option<Stroke>> {
    let Some(stroke) = stroke else { return Some(None) };
    let line_cap = match stroke.linecap() {
        usvg::LineCap::Butt => LineCap::Butt,
        usvg::LineCap::Round => LineCap::Round,
        usvg::LineCap::Square => LineCap::Square,
    };
    let line_join = match stroke.linejoin() {
        usvg::LineJoin::Miter | usvg::LineJoin::MiterClip => LineJoin::Miter,
        usvg::LineJoin::Round => LineJoin::Round,
        usvg::LineJoin::Bevel => LineJoin::Bevel,
    };
    let dash = |array: &[f32]| StrokeDash { array: array.to_vec(), offset: stroke.dashoffset() };
    Some(Some(Stroke {
        paint: colour(stroke.paint())?.into(),
        width: stroke.width().get(),
        miter_limit: stroke.miterlimit().get(),
        line_cap,
        line_join,
        opacity: NormalizedF32::new(stroke.opacity().get())?,
        dash: stroke.dasharray().map(dash),
    }))
}

fn colour(paint: &usvg::Paint) -> Option<rgb::Color> {
    let usvg::Paint::Color(colour) = paint else { return None };
    Some(rgb::Color::new(colour.red, colour.green, colour.blue))
}

fn outline(path: &usvg::Path) -> Option<Path> {
    let mut outline = PathBuilder::new();
    for segment in path.data().segments() {
        match segment {
            PathSegment::MoveTo(to) => outline.move_to(to.x, to.y),
            PathSegment::LineTo(to) => outline.line_to(to.x, to.y),
            PathSegment::QuadTo(by, to) => outline.quad_to(by.x, by.y, to.x, to.y),
            PathSegment::CubicTo(by, and, to) => outline.cubic_to(by.x, by.y, and.x, and.y, to.x, to.y),
            PathSegment::Close => outline.close(),
        }
    }
    outline.finish()
}

fn transform(transform: usvg::Transform) -> Transform {
    let usvg::Transform { sx, ky, kx, sy, tx, ty } = transform;
    Transform::from_row(sx, ky, kx, sy, tx, ty)
}
