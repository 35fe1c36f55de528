//! Writes the implementation of a derive.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::{DeriveInput, Result};

use crate::shape::{Body, Member, Shape};

/// What data is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Messages, replies, errors, notices, and what is in them.
    Plain,
    /// A state.
    State,
}

/// Implements the traits of `role` for a type, by way of the crate at `root`; a compile error when it is no plain data.
pub fn derive(input: TokenStream, root: &str, role: Role) -> TokenStream {
    try_derive(input, root, role).unwrap_or_else(|error| error.into_compile_error())
}

fn try_derive(input: TokenStream, root: &str, role: Role) -> Result<TokenStream> {
    let input: DeriveInput = syn::parse2(input)?;
    let shape = Shape::of(&input)?;
    let root: TokenStream = root.parse()?;
    let (name, schema) = (&shape.name, shape.schema);
    let body = match &shape.body {
        Body::Struct { fields } => of_struct(name, schema, fields),
        Body::Enum { representation, variants } => of_enum(name, schema, representation, variants),
    };
    let state = (role == Role::State).then(|| of_state(name));
    Ok(quote! {
        const _: () = {
            use #root as __tourbillon;
            use __tourbillon::plain::{Plain, layout};

            #body
            #state
        };
    })
}

fn of_struct(name: &Ident, schema: u32, fields: &[Member]) -> TokenStream {
    let types: Vec<_> = fields.iter().map(|field| &field.of).collect();
    let members: Vec<_> = fields.iter().map(|field| &field.name).collect();
    let names: Vec<String> = members.iter().map(|member| quote!(#member).to_string()).collect();
    let gaps = gaps(name, fields, &names);
    quote! {
        #gaps

        // SAFETY: a struct of fixed order whose fields are plain data and, as asserted above, leave no byte unset; it is a value when
        // all of them are.
        #[diagnostic::do_not_recommend]
        unsafe impl Plain for #name {
            const SCHEMA: u32 = #schema;
            const LAYOUT: u64 = {
                let hash = layout::begin("struct", size_of::<Self>(), align_of::<Self>());
                #(let hash = layout::field(hash, #names, ::core::mem::offset_of!(#name, #members), <#types as Plain>::LAYOUT);)*
                hash
            };
            const ZERO_IS_VALID: bool = true #(&& <#types as Plain>::ZERO_IS_VALID)*;
            const COLLECTIONS: __tourbillon::contents::Collections = {
                let all = __tourbillon::contents::Collections::NONE;
                #(let all = all.with(#names, ::core::mem::offset_of!(#name, #members), &<#types as Plain>::COLLECTIONS);)*
                all
            };

            #[inline(always)]
            unsafe fn is_valid(at: *const Self) -> bool {
                let _ = at;
                // SAFETY: the caller vouches for all bytes, so for those of each field.
                true #(&& unsafe { <#types as Plain>::is_valid(&raw const (*at).#members) })*
            }
        }
    }
}

/// Asserts that there is no byte between the fields of a struct, nor behind the last.
fn gaps(name: &Ident, fields: &[Member], names: &[String]) -> TokenStream {
    const CURE: &str = "order the fields by falling alignment, or fill the gap with a field such as `[u8; 4]`";
    let mut gaps = TokenStream::new();
    let mut end = quote!(0);
    for (field, field_name) in fields.iter().zip(names) {
        let (member, of) = (&field.name, &field.of);
        let text = format!(
            "there is padding in `{name}` in front of the field `{field_name}`, whose bytes nobody sets: {CURE}"
        );
        gaps.extend(quote! {
            const _: () = assert!(::core::mem::offset_of!(#name, #member) == #end, #text);
        });
        end = quote!(::core::mem::offset_of!(#name, #member) + size_of::<#of>());
    }
    let text = format!("there is padding at the end of `{name}`, whose bytes nobody sets: {CURE}");
    gaps.extend(quote!(
        const _: () = assert!(size_of::<#name>() == #end, #text);
    ));
    gaps
}

fn of_enum(name: &Ident, schema: u32, representation: &Ident, variants: &[Ident]) -> TokenStream {
    let names: Vec<String> = variants.iter().map(Ident::to_string).collect();
    let patterns: Vec<Ident> = (0..variants.len()).map(|index| format_ident!("VARIANT_{index}")).collect();
    let integer = representation.to_string();
    quote! {
        // SAFETY: an enum without fields is the integer that its representation says; only those of its variants are values.
        #[diagnostic::do_not_recommend]
        unsafe impl Plain for #name {
            const SCHEMA: u32 = #schema;
            const LAYOUT: u64 = {
                let hash = layout::begin(#integer, size_of::<Self>(), align_of::<Self>());
                #(let hash = layout::variant(hash, #names, #name::#variants as #representation as i128);)*
                hash
            };
            const ZERO_IS_VALID: bool = false #(|| #name::#variants as #representation == 0)*;

            #[inline(always)]
            unsafe fn is_valid(at: *const Self) -> bool {
                #(const #patterns: #representation = #name::#variants as #representation;)*
                // SAFETY: the caller vouches for the bytes, which are those of an integer.
                matches!(unsafe { *at.cast::<#representation>() }, #(#patterns)|*)
            }
        }
    }
}

fn of_state(name: &Ident) -> TokenStream {
    let size = format!(
        "the state `{name}` is larger than 256 bytes: a handler works on a copy, which must stay close to the registers; split the \
         actor, or keep less"
    );
    let alignment =
        format!("the state `{name}` is aligned to more than 16 bytes, which its place is not: leave `align` out");
    quote! {
        const _: () = assert!(size_of::<#name>() <= __tourbillon::actor::STATE_BYTES_MAX, #size);
        const _: () = assert!(align_of::<#name>() <= __tourbillon::actor::ALIGNMENT_MAX, #alignment);

        impl __tourbillon::State for #name {}
    }
}
