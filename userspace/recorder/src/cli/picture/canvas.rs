//! Pixels that grow downwards, what is put on them, and how they are written.

use std::convert::Infallible;

use anyhow::{Context, Result};
use embedded_graphics::mono_font::iso_8859_1::{FONT_8X13, FONT_8X13_BOLD};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::{DrawTarget, Drawable, OriginDimensions, Pixel, Point, RgbColor, Size};
use embedded_graphics::primitives::Rectangle;
use embedded_graphics::text::{Baseline, Text};

use crate::cli::terminal::{Style, width};

/// Pixels from one letter to the next.
pub(super) const CELL: i32 = 8;
/// Pixels from one line of text to the next.
pub(super) const LINE: i32 = 16;

/// How something is drawn.
#[derive(Clone, Copy)]
pub(super) struct Ink {
    colour: Rgb888,
    font: &'static MonoFont<'static>,
}

impl Ink {
    pub(super) const PLAIN: Ink = Ink::new(0x24, 0x29, 0x2f);
    pub(super) const TITLE: Ink = Ink { font: BOLD, ..Ink::PLAIN };
    pub(super) const FAINT: Ink = Ink::new(0x8c, 0x95, 0x9f);
    pub(super) const NOTE: Ink = Ink::new(0x7d, 0x4e, 0x00);
    pub(super) const BAD: Ink = Ink::new(0xcf, 0x22, 0x2e);
    pub(super) const CALLER: Ink = Ink::new(0x09, 0x69, 0xda);
    pub(super) const CALLEE: Ink = Ink::new(0x1a, 0x7f, 0x37);

    const fn new(red: u8, green: u8, blue: u8) -> Ink {
        Ink { colour: Rgb888::new(red, green, blue), font: REGULAR }
    }

    /// As a terminal shows it.
    pub(super) fn of(style: Option<Style>) -> Ink {
        match style {
            None => Ink::PLAIN,
            Some(Style::Bold) => Ink::TITLE,
            Some(Style::Dim) => Ink::FAINT,
            Some(Style::Note) => Ink::NOTE,
            Some(Style::Bad) => Ink::BAD,
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(self) -> [u8; 3] {
        bytes(self.colour)
    }
}

/// A picture. What lies outside of it is not drawn.
pub(super) struct Canvas {
    width: u32,
    /// Row by row: red, green, blue.
    pixels: Vec<[u8; 3]>,
}

impl Canvas {
    pub(super) fn new(width: u32) -> Canvas {
        Canvas { width, pixels: Vec::new() }
    }

    /// Adds so many rows at the bottom; returns the first of them.
    pub(super) fn extend(&mut self, rows: i32) -> i32 {
        let top = self.height();
        let more = rows.unsigned_abs() as usize * self.width as usize;
        self.pixels.resize(self.pixels.len() + more, BACKGROUND);
        top as i32
    }

    pub(super) fn fill(&mut self, x: i32, y: i32, width: i32, height: i32, ink: Ink) {
        let size = Size::new(width.unsigned_abs(), height.unsigned_abs());
        let Ok(()) = self.fill_solid(&Rectangle::new(Point::new(x, y), size), ink.colour);
    }

    /// Puts a text there, a letter a cell, two for those that are wide. Letters that ISO 8859-1 does not have become `?`, but
    /// those that lines are made of become lines.
    pub(super) fn text(&mut self, mut x: i32, y: i32, text: &str, ink: Ink) {
        for letter in text.chars() {
            match letter {
                '─' => self.fill(x, y + ACROSS, CELL, 1, ink),
                '│' => self.fill(x + CELL / 2, y, 1, LINE, ink),
                '…' => (1..CELL).step_by(3).for_each(|dot| self.fill(x + dot, y + BASE, 1, 1, ink)),
                _ => self.letter(x, y, letter, ink),
            }
            x += CELL * width(letter.encode_utf8(&mut [0; 4])) as i32;
        }
    }

    /// Adds a line of text at the bottom.
    pub(super) fn line(&mut self, x: i32, text: &str, ink: Ink) {
        let y = self.extend(LINE);
        self.text(x, y, text, ink);
    }

    /// The picture as a file.
    pub(super) fn png(&self) -> Result<Vec<u8>> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.width, self.height());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().context("encode the picture")?;
        writer.write_image_data(self.pixels.as_flattened()).context("encode the picture")?;
        writer.finish().context("encode the picture")?;
        Ok(file)
    }

    fn height(&self) -> u32 {
        (self.pixels.len() / self.width.max(1) as usize) as u32
    }

    fn letter(&mut self, x: i32, y: i32, letter: char, ink: Ink) {
        let mut bytes = [0; 4];
        let style = MonoTextStyle::new(ink.font, ink.colour);
        let place = Point::new(x, y);
        let text = Text::with_baseline(letter.encode_utf8(&mut bytes), place, style, Baseline::Top);
        let Ok(_) = text.draw(self);
    }
}

const REGULAR: &MonoFont<'static> = &FONT_8X13;
const BOLD: &MonoFont<'static> = &FONT_8X13_BOLD;
const BACKGROUND: [u8; 3] = [0xff; 3];
/// From the top of a line to where an arrow goes, in the middle of its head, and to the feet of letters.
const ACROSS: i32 = 6;
const BASE: i32 = 10;

/// Red, green, blue.
fn bytes(colour: Rgb888) -> [u8; 3] {
    [colour.r(), colour.g(), colour.b()]
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width, self.height())
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Infallible>
    where
        I: IntoIterator<Item = Pixel<Rgb888>>,
    {
        let width = self.width as usize;
        for Pixel(Point { x, y }, colour) in pixels {
            let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { continue };
            if let Some(pixel) = self.pixels.get_mut(y * width + x).filter(|_| x < width) {
                *pixel = bytes(colour);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> Vec<[u8; 3]> {
        let mut canvas = Canvas::new(40);
        canvas.line(0, text, Ink::PLAIN);
        canvas.pixels
    }

    #[test]
    fn letters_that_there_are_and_others() {
        assert!(drawn("é") != drawn("?") && drawn("é") != drawn(" "));
        assert!(drawn("я\u{fffd}") == drawn("??"));
        // What is wide takes two cells.
        assert!(drawn("山a") == drawn("? a"));
        let rail = drawn("│");
        assert!(rail.chunks(40).all(|row| row[4] == Ink::PLAIN.bytes()));
        assert_eq!(drawn("──").iter().filter(|&&pixel| pixel != BACKGROUND).count(), 16);
    }

    #[test]
    fn nothing_outside() {
        let mut canvas = Canvas::new(10);
        assert_eq!((canvas.extend(4), canvas.extend(2)), (0, 4));
        canvas.fill(-5, -5, 100, 5, Ink::BAD);
        canvas.fill(10, 0, 5, 100, Ink::BAD);
        canvas.fill(0, 6, 10, 10, Ink::BAD);
        canvas.text(-100, 100, "outside", Ink::BAD);
        assert!(canvas.pixels.iter().all(|&pixel| pixel == BACKGROUND));
        canvas.fill(9, 5, 100, 100, Ink::BAD);
        assert_eq!(canvas.pixels.iter().position(|&pixel| pixel == Ink::BAD.bytes()), Some(59));
    }
}
