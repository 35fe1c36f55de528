//! Reads a type, and refuses what is no plain data, saying why and what to write instead.

use proc_macro2::{Ident, Span, TokenStream};
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Fields, LitInt, Result, Type};

/// Integers that a field-less enum may be.
const REPRESENTATIONS: [&str; 8] = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"];

/// A type that may be plain data.
pub struct Shape {
    /// Its name.
    pub name: Ident,
    /// The version of its schema.
    pub schema: u32,
    /// What is in it.
    pub body: Body,
}

/// What is in a type.
pub enum Body {
    /// Fields in order.
    Struct {
        /// The fields.
        fields: Vec<Member>,
    },
    /// Variants without fields.
    Enum {
        /// The integer that it is.
        representation: Ident,
        /// The variants.
        variants: Vec<Ident>,
    },
}

/// A field.
pub struct Member {
    /// Its name, or its number in a tuple.
    pub name: syn::Member,
    /// Its type.
    pub of: Type,
}

impl Shape {
    /// Reads a type.
    pub fn of(input: &DeriveInput) -> Result<Self> {
        if let Some(parameter) = input.generics.params.first() {
            return Err(Error::new(
                parameter.span(),
                "plain data has no parameters: its bytes must be known where the kernel is compiled; write one type for each that you need",
            ));
        }
        let schema = schema_of(&input.attrs)?;
        let representation = Representation::of(&input.attrs)?;
        let body = match &input.data {
            Data::Struct(data) => struct_body(input, &data.fields, representation)?,
            Data::Enum(data) => enum_body(input, data, representation)?,
            Data::Union(data) => {
                return Err(Error::new(
                    data.union_token.span,
                    "a union is no plain data: nobody can tell which of its fields a message holds; write a struct",
                ));
            }
        };
        Ok(Self { name: input.ident.clone(), schema, body })
    }
}

fn struct_body(input: &DeriveInput, fields: &Fields, representation: Representation) -> Result<Body> {
    if !(representation.is_c || representation.is_transparent) {
        return Err(Error::new(
            input.ident.span(),
            "the order of the fields is not fixed: write `#[repr(C)]`, or `#[repr(transparent)]` around one field",
        ));
    }
    if let Some(span) = representation.packed {
        return Err(Error::new(
            span,
            "handlers borrow fields, which `packed` forbids: leave it out, and order the fields by falling alignment",
        ));
    }
    let mut members = Vec::new();
    for (field, name) in fields.iter().zip(fields.members()) {
        refuse(&field.ty)?;
        members.push(Member { name, of: field.ty.clone() });
    }
    Ok(Body::Struct { fields: members })
}

fn enum_body(input: &DeriveInput, data: &syn::DataEnum, representation: Representation) -> Result<Body> {
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new(
                variant.fields.span(),
                "a variant with fields leaves bytes unset in the others: write a struct with a field-less enum and the fields beside it",
            ));
        }
    }
    if data.variants.is_empty() {
        return Err(Error::new(input.ident.span(), "an enum without variants has no value that could travel"));
    }
    let Some(representation) = representation.integer else {
        return Err(Error::new(
            input.ident.span(),
            "the size of the enum is not fixed: write `#[repr(u8)]`, `#[repr(u16)]` or `#[repr(u32)]`",
        ));
    };
    Ok(Body::Enum { representation, variants: data.variants.iter().map(|variant| variant.ident.clone()).collect() })
}

/// What stands in the `repr` of a type.
#[derive(Default)]
struct Representation {
    is_c: bool,
    is_transparent: bool,
    packed: Option<Span>,
    integer: Option<Ident>,
}

impl Representation {
    fn of(attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("repr")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("C") {
                    found.is_c = true;
                } else if meta.path.is_ident("transparent") {
                    found.is_transparent = true;
                } else if meta.path.is_ident("packed") {
                    found.packed = Some(meta.path.span());
                } else if let Some(name) = meta.path.get_ident().filter(|name| is_representation(name)) {
                    found.integer = Some(name.clone());
                }
                if meta.input.peek(syn::token::Paren) {
                    let inner;
                    syn::parenthesized!(inner in meta.input);
                    inner.parse::<TokenStream>()?;
                }
                Ok(())
            })?;
        }
        Ok(found)
    }
}

fn is_representation(name: &Ident) -> bool {
    REPRESENTATIONS.iter().any(|representation| name == representation)
}

/// The version in `#[schema(2)]`, 1 without.
fn schema_of(attributes: &[Attribute]) -> Result<u32> {
    let mut schema = None;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("schema")) {
        let wrong =
            |span| Error::new(span, "the version of a schema is a number from 1 to 4294967295, such as `#[schema(2)]`");
        let number: LitInt = attribute.parse_args().map_err(|_| wrong(attribute.span()))?;
        let version = number.base10_parse::<u32>().ok().filter(|version| *version > 0);
        if schema.replace(version.ok_or_else(|| wrong(number.span()))?).is_some() {
            return Err(Error::new(attribute.span(), "a type has one version of its schema"));
        }
    }
    Ok(schema.unwrap_or(1))
}

/// Refuses types that can be seen to be no plain data. What cannot be seen, such as a name of such a type, is refused by the trait.
fn refuse(of: &Type) -> Result<()> {
    let why = match of {
        Type::Reference(_) | Type::Ptr(_) | Type::FnPtr(_) => {
            "an address means nothing in another memory: put the value itself here, or its key; payloads of many bytes go beside a message"
        }
        Type::Slice(_) | Type::TraitObject(_) | Type::ImplTrait(_) => {
            "plain data has a size that is known: write an array such as `[u32; 8]`, and a field that says how much of it is used"
        }
        Type::Tuple(tuple) if !tuple.elems.is_empty() => {
            "the order of a tuple's fields is not fixed: write a struct with `#[repr(C)]` and `#[derive(Plain)]`"
        }
        Type::Array(array) => return refuse(&array.elem),
        Type::Paren(inner) => return refuse(&inner.elem),
        Type::Group(inner) => return refuse(&inner.elem),
        Type::Path(path) => match path.path.segments.last().map(|segment| segment.ident.to_string()).as_deref() {
            Some("usize" | "isize") => "the size of `usize` and `isize` depends on the machine: write `u64` or `u32`",
            Some("String" | "Vec" | "Box" | "Rc" | "Arc") => {
                "there is no allocator on a GPU, and an address means nothing in another memory: write an array such as `[u8; 32]`, \
                 or send the bytes as a payload beside the message"
            }
            Some("Option") => {
                "which bytes of an `Option` are set depends on its value: write a value that means none, or a field beside it"
            }
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    Err(Error::new(of.span(), why))
}
