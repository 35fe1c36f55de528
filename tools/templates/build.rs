fn main() {
    tourbillon_build::system("Mine");
}
